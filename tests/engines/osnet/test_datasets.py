"""Datasets by name, each against torchreid's own class called directly; several sources; where nothing is found."""

import json
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchreid.reid.data import datasets as theirs

from osnet.whole_runs import Train
from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError, DataError
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import Crop, Splits
from watchme.data.formats.reid_datasets import TORCHREID_DATASETS, find_known
from watchme.engines.osnet.config import Config, Format, ReidDataset
from watchme.engines.osnet.data.datasets import merged, read_datasets
from watchme.engines.osnet.data.holdout import hold_out

Typed = Callable[..., RunConfig]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def market_like(base: Path, suffix: str = "jpg") -> None:
    """People 1..3 train, 11..13 test, two cameras; as Market-1501 and DukeMTMC-reID name them."""
    for pid in (1, 2, 3):
        touch(
            *(base / "bounding_box_train" / f"{pid:04d}_c{cam}s1_00{cam}_0{n}.{suffix}" for cam in (1, 2) for n in "12")
        )
    for pid in (11, 12, 13):
        touch(base / "query" / f"{pid:04d}_c1s1_007_00.{suffix}")
        touch(*(base / "bounding_box_test" / f"{pid:04d}_c{cam}s1_00{cam}_00.{suffix}" for cam in (1, 2)))


def make_market1501(root: Path) -> None:
    base = root / "market1501" / "Market-1501-v15.09.15"
    market_like(base)
    touch(base / "bounding_box_test" / "0000_c1s1_001_01.jpg", base / "bounding_box_test" / "-1_c1s1_001_01.jpg")
    touch(base / "images" / "0000_c3s1_009_01.jpg", base / "gt_bbox" / "0001_c1s1_001_01.txt")


def make_dukemtmcreid(root: Path) -> None:
    market_like(root / "dukemtmc-reid" / "DukeMTMC-reID")


def make_msmt17(root: Path) -> None:
    base = root / "msmt17" / "MSMT17_V1"
    for part, lists, people in (("train", ("train", "val"), 4), ("test", ("query", "gallery"), 3)):
        for number, name in enumerate(lists):
            lines = []
            for pid in range(people):
                for cam in (1, 2):
                    image = f"{pid:04d}/{pid:04d}_{number:03d}_{cam:02d}_0303morning_0008_0.jpg"
                    touch(base / part / image)
                    lines.append(f"{image} {pid}\n")
            (base / f"list_{name}.txt").write_text("".join(lines))


def make_cuhk03(root: Path) -> None:
    """What torchreid leaves after it has read the .mat files, written when the dataset lay elsewhere."""
    base = root / "cuhk03"
    for crops in ("detected", "labeled"):
        for kind, count in (("classic", 20), ("new", 1)):
            made = []
            for number in range(count):
                parts: dict[str, list[tuple[str, int, int]]] = {"train": [], "query": [], "gallery": []}
                for pid in range(6):
                    for view in (1, 2):
                        image = f"images_{crops}/1_{(pid + number) % 6:03d}_{view}_01.png"
                        touch(base / image)
                        row = (f"/elsewhere/cuhk03/{image}", pid % 3, view - 1)
                        for part in ("train",) if pid < 3 else ("query", "gallery"):
                            parts[part].append(row)
                made.append(parts)
            (base / f"splits_{kind}_{crops}.json").write_text(json.dumps(made))


def cuhk03_as_released(root: Path) -> dict[str, Any]:
    """CUHK03 as it is downloaded: crops in a .mat of version 7.3, the new protocol in two of version 5.

    Returns:
        File name -> pixels of each detected crop.
    """
    base, made, drawn = root / "cuhk03", {}, np.random.default_rng(0)
    (base / "cuhk03_release").mkdir(parents=True)
    with h5py.File(base / "cuhk03_release" / "cuhk-03.mat", "w") as mat:

        def kept(name: str, values: Any) -> Any:
            return mat.create_dataset(name, data=values).ref  # MATLAB's order is the other way round

        for kind in ("detected", "labeled"):
            pairs = []
            for pair in range(5):
                cells = np.empty((10, 3), dtype=h5py.ref_dtype)  # images, people
                for image, person in np.ndindex(cells.shape):
                    empty = image % 5 > 1  # a person has fewer than five images from a camera
                    pixels = np.zeros(0) if empty else drawn.integers(0, 255, (12, 6, 3), dtype=np.uint8)
                    cells[image, person] = kept(f"{kind}_{pair}_{image}_{person}", pixels.T)
                    if kind == "detected" and not empty:
                        view = 1 if image < 5 else 2
                        made[f"{pair + 1}_{person + 1:03d}_{view}_{image + 1:02d}.png"] = pixels
                pairs.append(kept(f"{kind}_{pair}", cells))
            mat.create_dataset(kind, data=np.array([pairs], dtype=h5py.ref_dtype))
        tested = [kept(f"split{number}", np.array([[1 + number % 5, 2], [3, 1]]).T) for number in range(20)]
        mat.create_dataset("testsets", data=np.array([tested], dtype=h5py.ref_dtype))
    names = sorted(made)
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    people = np.array([int(name[0]) * 10 + int(name[2:5]) for name in names])
    test = people % 10 == 3
    for kind in ("detected", "labeled"):
        where = {
            "train_idx": np.flatnonzero(~test) + 1,
            "query_idx": np.flatnonzero(test)[::2] + 1,
            "gallery_idx": np.flatnonzero(test)[1::2] + 1,
        }
        savemat(
            base / f"cuhk03_new_protocol_config_{kind}.mat", {"filelist": cells, "labels": people[:, None], **where}
        )
    return made


def make_cuhk01(root: Path) -> None:
    touch(*(root / "cuhk01" / "campus" / f"{pid:04d}{cam:03d}.png" for pid in range(1, 9) for cam in (1, 2, 3, 4)))


def make_cuhk02(root: Path) -> None:
    base = root / "cuhk02" / "Dataset"
    touch(
        *(
            base / f"P{pair}" / f"cam{cam}" / f"{pid:03d}_{n}.png"
            for pair in range(1, 6)
            for cam in (1, 2)
            for pid in range(1, 4)
            for n in (1, 2)
        )
    )


def make_viper(root: Path) -> None:
    touch(*(root / "viper" / "VIPeR" / f"cam_{cam}" / f"{pid:03d}_0.bmp" for cam in "ab" for pid in range(8)))


def make_grid(root: Path) -> None:
    base = root / "grid" / "underground_reid"
    touch(*(base / "probe" / f"{pid:04d}_1_0_0.jpeg" for pid in range(1, 251)))
    touch(*(base / "gallery" / f"{pid:04d}_2_0_0.jpeg" for pid in range(1, 251)))
    touch(*(base / "gallery" / f"0000_3_0_{n}.jpeg" for n in range(5)))
    split = np.zeros((1, 1), dtype=[("a", object), ("b", object), ("trainIdx", object)])
    drawn = np.random.default_rng(0)
    cells = np.empty((1, 10), dtype=object)
    for place in range(10):
        one = split.copy()
        one[0, 0] = (1, 2, np.sort(drawn.permutation(250)[:125] + 1)[None])
        cells[0, place] = one
    savemat(base / "features_and_partitions.mat", {"trainIdxAll": cells})


def make_prid(root: Path) -> None:
    base = root / "prid2011" / "prid_2011" / "single_shot"
    touch(*(base / "cam_a" / f"person_{pid:04d}.png" for pid in range(1, 386)))
    touch(*(base / "cam_b" / f"person_{pid:04d}.png" for pid in range(1, 750)))


def make_ilids(root: Path) -> None:
    base = root / "ilids" / "i-LIDS_Pedestrian" / "Persons"
    touch(*(base / f"{pid:04d}{cam:03d}.jpg" for pid in range(1, 120) for cam in range(1, 5)))


def make_sensereid(root: Path) -> None:
    base = root / "sensereid" / "SenseReID"
    touch(*(base / "test_probe" / f"{pid:05d}_0.jpg" for pid in range(3)))
    touch(*(base / "test_gallery" / f"{pid:05d}_1.jpg" for pid in range(5)))


def make_cuhksysu(root: Path) -> None:
    touch(*(root / "cuhksysu" / "cropped_images" / f"p{pid}_s{n}_1.jpg" for pid in range(4) for n in range(2)))


MAKERS = {name.removeprefix("make_"): maker for name, maker in list(globals().items()) if name.startswith("make_")}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in MAKERS),
    *((name, {"split_id": 7}) for name in ("viper", "grid", "prid", "ilids", "cuhk01")),
    ("cuhk03", {"cuhk03_labeled": True}),
    ("cuhk03", {"cuhk03_classic_split": True, "split_id": 3}),
    ("cuhk03", {"cuhk03_classic_split": True, "cuhk03_labeled": True, "split_id": 19}),
    ("market1501", {"market1501_500k": True}),
    *((name, {"combineall": True}) for name in MAKERS if name not in ("sensereid", "cuhksysu")),
]


def dataset_of(name: str, root: Path, **options: Any) -> ReidDataset:
    return ReidDataset(task="reid", name=name, format=name, root=str(root), **options)  # type: ignore[arg-type]


def people(rows: Iterable[tuple[Any, int, int]]) -> set[tuple[frozenset[str], frozenset[tuple[str, int]]]]:
    """Who is on which images, and which image is from which camera; whatever the identities are called."""
    groups: dict[int, set[tuple[str, int]]] = defaultdict(set)
    for path, pid, cam in rows:
        names = [path] if isinstance(path, str) else path
        groups[pid] |= {(str(name), cam) for name in names}
    return {(frozenset(name for name, _ in found), frozenset(found)) for found in groups.values()}


def rows(crops: Iterable[Crop]) -> list[tuple[Any, int, int]]:
    return [(tuple(map(str, crop.files)), crop.pid, crop.cam) for crop in crops]


@pytest.mark.parametrize(
    ("name", "options"), OPTIONS, ids=lambda value: value if isinstance(value, str) else str(value)
)
def test_identities_cameras_and_paths_are_torchreids(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    dataset = dataset_of(name, tmp_path, **options)
    if name == "cuhksysu":  # has no test split
        make_market1501(tmp_path)
        dataset = replace(dataset, targets=["market1501"])
    ours = read_datasets(dataset, tmp_path).sources[name]
    if name == "cuhk03":
        # torchreid insists on files that it does not read any more, and on paths as they were.
        touch(*(tmp_path / "cuhk03" / path for path in TORCHREID_DATASETS["cuhk03"].layouts[0]))
        for path in (tmp_path / "cuhk03").glob("*.json"):
            path.write_text(path.read_text().replace("/elsewhere", str(tmp_path)))
    reference = theirs.init_image_dataset(name, root=str(tmp_path), verbose=False, **options)
    junk = set(reference._junk_pids)
    if TORCHREID_DATASETS.get(name) is None or TORCHREID_DATASETS[name].use != "test":
        assert people(rows(ours.train)) == people(row[:3] for row in reference.train)
        assert len({crop.pid for crop in ours.train}) == reference.num_train_pids
    if TORCHREID_DATASETS.get(name) is None or TORCHREID_DATASETS[name].use != "train":
        assert people(rows(ours.query)) == people(row[:3] for row in reference.query)
        known = [row[:3] for row in reference.gallery if row[1] not in junk]
        assert people(rows(crop for crop in ours.gallery if crop.pid)) == people(known)
        distractors = {row[0] for row in reference.gallery if row[1] in junk}
        assert {str(crop.path) for crop in ours.gallery if crop.pid == 0} == distractors
        # Query and gallery agree on who is who.
        either = people(rows([*ours.query, *(crop for crop in ours.gallery if crop.pid)]))
        assert either == people([*(row[:3] for row in reference.query), *known])


def test_cuhk03_is_extracted_from_what_its_authors_give_out(tmp_path: Path) -> None:
    made = cuhk03_as_released(tmp_path)
    splits = read_datasets(dataset_of("cuhk03", tmp_path), tmp_path).sources["cuhk03"]
    crops = [*splits.train, *splits.query, *splits.gallery]
    assert sorted(crop.path.name for crop in crops) == sorted(made)
    assert {crop.path.name[2:5] for crop in splits.train} == {"001", "002"}
    assert {crop.path.name[2:5] for crop in [*splits.query, *splits.gallery]} == {"003"}
    for crop in crops:
        assert crop.cam == int(crop.path.name[6]) - 1
        np.testing.assert_array_equal(np.asarray(Image.open(crop.path)), made[crop.path.name])
    classic = read_datasets(dataset_of("cuhk03", tmp_path, cuhk03_classic_split=True, split_id=1), tmp_path)
    assert {crop.path.name[:5] for crop in classic.sources["cuhk03"].query} == {"2_002", "3_001"}


def test_every_known_dataset_is_a_format_and_an_option() -> None:
    assert set(get_args(Format)) == {"market1501", *TORCHREID_DATASETS}
    conf = Path(__file__).resolve().parents[3] / "conf" / "dataset"
    assert all((conf / f"{name}.yaml").is_file() for name in get_args(Format))


def test_identities_of_train_and_test_do_not_meet(tmp_path: Path) -> None:
    """MSMT17 counts both from 0; were they one person, combining them would mix people."""
    make_msmt17(tmp_path)
    splits = read_datasets(dataset_of("msmt17", tmp_path), tmp_path).sources["msmt17"]
    assert not {crop.pid for crop in splits.train} & {crop.pid for crop in (*splits.query, *splits.gallery)}


@pytest.mark.parametrize("name", ["viper", "ilids", "prid", "cuhk01"])
def test_random_splits_are_the_same_everywhere_and_leave_the_generators_alone(name: str, tmp_path: Path) -> None:
    read = []
    for number in range(2):
        random.seed(number)
        np.random.seed(number)
        before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        root = tmp_path / str(number)
        MAKERS[name](root)
        splits = read_datasets(dataset_of(name, root), root).sources[name]
        read.append([(crop.path.name, crop.path.parent.name, crop.pid) for crop in splits.train])
        assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    if name != "ilids":  # whose split follows the order of the folder
        assert read[0] == read[1]


def test_the_dataset_folder_itself_is_a_root(tmp_path: Path) -> None:
    make_dukemtmcreid(tmp_path)
    assert find_known("dukemtmcreid", tmp_path / "dukemtmc-reid") == find_known("dukemtmcreid", tmp_path)


class TestNotThere:
    @pytest.mark.parametrize("name", TORCHREID_DATASETS)
    def test_nothing_is_downloaded_and_the_folder_is_shown(
        self, name: str, typed_config: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("a download was tried")

        monkeypatch.setattr("torchreid.reid.data.datasets.dataset.download_url", refuse)
        more = ["dataset.targets=[market1501]", f"+dataset.roots.market1501={tmp_path}"] if name == "cuhksysu" else []
        mode = ["mode=evaluate", "checkpoint=random"] if name == "sensereid" else []
        with pytest.raises(ConfigError) as caught:
            typed_config("model=osnet_x0_25", f"dataset={name}", f"dataset.root={tmp_path}", *more, *mode)
        known = TORCHREID_DATASETS[name]
        problem = next(problem for problem in caught.value.problems if problem.key == "dataset.root")
        assert f"<root>/{known.folder}/{known.layouts[0][0]}" in problem.expected
        assert not list(tmp_path.iterdir())

    def test_without_a_root_the_folder_is_shown_too(self, typed_config: Typed) -> None:
        with pytest.raises(ConfigError, match=r"(?s)give the folder of the dataset.*<root>/viper/VIPeR/cam_a"):
            typed_config("model=osnet_x0_25", "dataset=viper")

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        make_msmt17(tmp_path)
        (tmp_path / "msmt17" / "MSMT17_V1" / "list_query.txt").unlink()
        with pytest.raises(DataError, match=r"msmt17 has no MSMT17_V1/list_query\.txt\n"):
            find_known("msmt17", tmp_path)

    def test_missing_images_and_damaged_splits_are_named(self, tmp_path: Path) -> None:
        make_msmt17(tmp_path)
        sorted((tmp_path / "msmt17").rglob("*.jpg"))[0].unlink()
        with pytest.raises(DataError, match=r"1 images that the lists of .* name are missing, e\.g\. .*0000_000_01_"):
            read_datasets(dataset_of("msmt17", tmp_path), tmp_path)
        make_viper(tmp_path)
        (tmp_path / "viper" / "splits.json").write_text("[{")
        with pytest.raises(DataError, match=r"(?s)torchreid cannot read viper .*JSONDecodeError.*can be removed"):
            read_datasets(dataset_of("viper", tmp_path), tmp_path)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", r"list_train\.txt is empty"),
            ("0000/a.jpg 0\n", r"list_train\.txt:1: expected .* found '0000/a\.jpg 0'"),
            ("0000/0000_000_01_x.jpg 0\n\n", r"list_train\.txt:2: expected .* found ''"),
            ("0000/0000_000_01_x.jpg\n", r"list_train\.txt:1: expected an image and its identity"),
        ],
    )
    def test_a_damaged_list_is_named_with_its_line(self, text: str, said: str, tmp_path: Path) -> None:
        """torchreid's reason was `list index out of range`, and a split*.json that there is not was to be removed."""
        make_msmt17(tmp_path)
        (tmp_path / "msmt17" / "MSMT17_V1" / "list_train.txt").write_text(text)
        with pytest.raises(DataError, match=said):
            read_datasets(dataset_of("msmt17", tmp_path), tmp_path)

    def test_what_torchreid_needs_for_the_first_extraction_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(*(tmp_path / "cuhk03" / path for path in TORCHREID_DATASETS["cuhk03"].layouts[0]))
        monkeypatch.setitem(sys.modules, "imageio", None)
        with pytest.raises(DataError, match="torchreid needs imageio to read cuhk03: pip install imageio"):
            read_datasets(dataset_of("cuhk03", tmp_path), tmp_path)

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(content: object, path: str) -> None:
            raise PermissionError(13, "Permission denied", path)

        make_viper(tmp_path)
        monkeypatch.setattr("torchreid.reid.data.datasets.image.viper.write_json", refuse)
        with pytest.raises(DataError, match=r"(?s)splits of viper .*splits\.json cannot be written"):
            read_datasets(dataset_of("viper", tmp_path), tmp_path)


def test_an_evaluation_does_without_what_was_only_trained_on(typed_config: Typed, tmp_path: Path) -> None:
    make_msmt17(tmp_path)
    options = ("model=osnet_x0_25", f"dataset.root={tmp_path}", "dataset.targets=[msmt17]")
    for dataset in ("several", "dukemtmcreid"):
        config = typed_config(*options, f"dataset={dataset}", "mode=evaluate", "checkpoint=random")
        assert isinstance(config, Config)
        read = read_datasets(config.dataset, tmp_path, "evaluate")
        assert (list(read.sources), list(read.targets)) == ([], ["msmt17"])
    with pytest.raises(ConfigError, match="dukemtmc-reid"):
        typed_config(*options, "dataset=dukemtmcreid")


REFUSED = [
    ("dataset.sources", "name at least one", ("dataset=several",)),
    ("dataset.sources", "name at least one", ("dataset=several", "dataset.targets=[viper]")),
    (
        "dataset.targets",
        "name at least one",
        ("dataset=viper", "dataset.targets=[]", "mode=evaluate", "checkpoint=random"),
    ),
    (
        "dataset.targets",
        "leaves nothing to test on, which objective needs",
        (
            "dataset=market1501",
            "dataset.targets=[]",
            "objective=test/map",
            "dataset.val_identities=0",
            "dataset.select_on_test=true",
        ),
    ),
    ("dataset.targets", "has no test split", ("dataset=cuhksysu", "mode=evaluate", "checkpoint=random")),
    ("dataset.sources", "twice", ("dataset=several", "dataset.sources=[market1501,market1501]")),
    ("dataset.sources", r"dataset\.roots=\{shop:/data/shop\}", ("dataset=several", "dataset.sources=[/data/shop]")),
    ("dataset.root", r"did\s+you\s+mean\s+msmt17", ("dataset=several", "dataset.sources=[mstm17]")),
    ("dataset.roots.shop", "no such folder", ("dataset.sources=[shop]", "+dataset.roots.shop=/nowhere")),
    ("dataset.sources", "has no training set", ("dataset=sensereid",)),
    ("dataset.targets", "has no test split", ("dataset=market1501", "dataset.targets=[cuhksysu]")),
    ("dataset.split_id", "one split alone", ("dataset=market1501", "dataset.split_id=1")),
    ("dataset.split_id", "cuhk03_classic_split=true", ("dataset=cuhk03", "dataset.split_id=1")),
    ("dataset.split_id", "has the splits 0 to 19", ("dataset=viper", "dataset.split_id=20")),
    ("dataset.cuhk03_labeled", "without cuhk03", ("dataset=viper", "dataset.cuhk03_labeled=true")),
    ("dataset.market1501_500k", "without market1501", ("dataset=viper", "dataset.market1501_500k=true")),
    ("dataset.load_train_targets", "is both", ("dataset=market1501", "dataset.load_train_targets=true")),
    ("dataset.tracklets", "has no tracklets", ("dataset=viper", "dataset.tracklets=true")),
    ("dataset.tracklets", "consists of tracklets", ("dataset=mars", "dataset.tracklets=false")),
    ("dataset.combineall", "cannot combine", ("dataset=mars", "dataset.combineall=true")),
]


@pytest.mark.parametrize(("key", "expected", "overrides"), REFUSED, ids=lambda value: value if "." in value else "")
def test_refused_by_its_key(
    key: str, expected: str, overrides: tuple[str, ...], typed_config: Typed, tmp_path: Path
) -> None:
    for maker in (make_market1501, make_viper, make_cuhk03, make_sensereid, make_cuhksysu):
        maker(tmp_path)
    for path in TORCHREID_DATASETS["mars"].layouts[0]:
        touch(tmp_path / "mars" / path)
    with pytest.raises(ConfigError, match=expected) as caught:
        typed_config("model=osnet_x0_25", *overrides, f"dataset.root={tmp_path}")
    assert {problem.key for problem in caught.value.problems} == {key}


def test_distractors_that_are_not_there_are_named(typed_config: Typed, tmp_path: Path) -> None:
    market_like(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)500,000 distractors are expected in.*images"):
        typed_config(
            "model=osnet_x0_25", "dataset=market1501", f"dataset.root={tmp_path}", "dataset.market1501_500k=true"
        )


class TestSeveral:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        make_market1501(tmp_path)
        make_dukemtmcreid(tmp_path)
        make_msmt17(tmp_path)
        market_like(tmp_path / "shop")
        market_like(tmp_path / "elsewhere" / "mall")
        return tmp_path

    def test_sources_targets_and_folders_of_ones_own(self, root: Path, typed_config: Typed) -> None:
        config = typed_config(
            "model=osnet_x0_25",
            "dataset=several",
            f"dataset.root={root}",
            "dataset.sources=[market1501,dukemtmcreid,shop,mall]",
            "dataset.targets=[msmt17,shop]",
            f"+dataset.roots.mall={root}/elsewhere/mall",
        )
        assert isinstance(config, Config)
        read = read_datasets(config.dataset, root)
        assert list(read.sources) == ["market1501", "dukemtmcreid", "shop", "mall"]
        assert list(read.targets) == ["msmt17", "shop"]
        assert read.sources["shop"] is read.targets["shop"]
        assert read.sources["mall"].root == root / "elsewhere" / "mall"

    def test_identities_and_cameras_are_kept_apart_as_torchreid_does(self, root: Path) -> None:
        names = ["market1501", "dukemtmcreid", "msmt17"]
        dataset = replace(dataset_of("market1501", root), name="several", sources=names)
        ours = merged(splits.train for splits in read_datasets(dataset, root).sources.values())
        reference = sum(theirs.init_image_dataset(name, root=str(root), verbose=False) for name in names)
        assert people(rows(ours)) == people(row[:3] for row in reference.train)
        assert {(str(crop.path), crop.cam, crop.dataset) for crop in ours} == {
            (row[0], row[2], row[3]) for row in reference.train
        }

    def test_one_source_is_left_as_it_is(self, root: Path) -> None:
        train = read_datasets(dataset_of("market1501", root), root).sources["market1501"].train
        assert merged([train]) == list(train)


def crowd(identities: int, cameras: int, seed: int) -> Splits:
    rng = random.Random(seed)
    crops = [
        Crop(Path(f"{seed}/{pid}_{cam}_{number}.jpg"), pid, cam)
        for pid in range(1, identities + 1)
        for cam in rng.sample(range(cameras), rng.randint(1, cameras))
        for number in range(2)
    ]
    return Splits(Path(str(seed)), crops, [], [])


class TestHoldOutOfSeveral:
    crops = merged(splits.train for splits in (crowd(300, 6, 1), crowd(100, 8, 2), crowd(60, 2, 3)))

    def test_each_source_and_camera_gives_in_proportion(self) -> None:
        held = hold_out(self.crops, 0.2, 0)
        pairs = {(crop.pid, crop.cam, crop.dataset) for crop in self.crops}
        cams: dict[int, set[int]] = defaultdict(set)
        for pid, cam, _ in pairs:
            cams[pid].add(cam)
        chosen = {crop.pid for crop in held.gallery}
        for place, tolerance in ((2, 0.02), (1, 0.12)):
            groups = defaultdict(set)
            for row in pairs:
                if len(cams[row[0]]) > 1:
                    groups[row[place]].add(row[0])
            shares = [len(group & chosen) / len(group) for group in groups.values()]
            assert max(shares) - min(shares) < tolerance

    def test_every_query_has_a_match_from_another_camera(self) -> None:
        held = hold_out(self.crops, 0.2, 0)
        seen = {(crop.pid, crop.cam) for crop in held.gallery}
        assert {crop.dataset for crop in held.query} == {0, 1, 2}
        for query in held.query:
            assert any(pid == query.pid and cam != query.cam for pid, cam in seen)

    def test_stable_for_a_seed(self) -> None:
        assert hold_out(self.crops, 0.2, 5) == hold_out(self.crops, 0.2, 5)
        assert hold_out(self.crops, 0.2, 5) != hold_out(self.crops, 0.2, 6)

    def test_a_source_without_cameras_is_trained_on_whole(self) -> None:
        blind = [Crop(Path(f"{pid}_{n}.jpg"), pid, 0) for pid in range(1, 500) for n in range(2)]
        held = hold_out(merged([crowd(100, 4, 1).train, blind]), 0.1, 0)
        assert {crop.dataset for crop in held.gallery} == {0}
        assert len({crop.pid for crop in held.gallery}) == 10


def test_a_damaged_test_image_ends_a_training_before_it_begins(
    train: Train, small_world: DemoWorld, tmp_path: Path
) -> None:
    """It is read at the end, which may be days away."""
    root = tmp_path / "people"
    shutil.copytree(small_world.reid, root)
    damaged = sorted((root / "bounding_box_test").iterdir())[-1]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(DataError, match=f"(?s)at its test.*{damaged.name} cannot be read") as error:
        train(f"dataset.root={root}", "train.epochs=1", folder=tmp_path / "run")
    assert str(error.value).count("cannot be read") == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
