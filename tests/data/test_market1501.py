"""The reader of Market-1501 naming: who is a person, what is left out and named, and sets without a test."""

from pathlib import Path

import pytest

from watchme.core.errors import DataError
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import FOLDERS, find_root, read_market
from watchme.engines.osnet.data.holdout import hold_out

TRAIN, QUERY, GALLERY = FOLDERS


def market(root: Path, names: dict[str, list[str]]) -> Path:
    for folder, files in names.items():
        (root / folder).mkdir(parents=True)
        for name in files:
            (root / folder / name).touch()
    return root


FROM_ZERO = {
    TRAIN: [
        "0000_c1s1_1.jpg",
        "0000_c2s1_2.jpg",
        "0001_c1s1_3.jpg",
        "0001_c2s1_4.jpg",
        "-2_c1s1_5.jpg",
        "-1_c1s1_6.jpg",
    ],
    QUERY: ["0007_c1s1_1.jpg"],
    GALLERY: ["0007_c2s1_1.jpg", "0000_c1s1_9.jpg", "-1_c1s1_9.jpg"],
}


def test_people_numbered_from_0_are_left_out_by_name_or_read_on_demand(tmp_path: Path) -> None:
    root = market(tmp_path, {**FROM_ZERO, TRAIN: [*FROM_ZERO[TRAIN], "0002_c1s1_8.jpg"]})
    splits = read_market(root)
    assert {crop.pid for crop in splits.train} == {1, 2}
    assert [(role, path.name, pid) for role, path, pid in splits.left_out] == [
        ("train", "-2_c1s1_5.jpg", -2),
        ("train", "0000_c1s1_1.jpg", 0),
        ("train", "0000_c2s1_2.jpg", 0),
    ]
    splits = read_market(root, first_id=0)
    assert {crop.pid for crop in splits.train} == {1, 2, 3}
    assert [crop.pid for crop in splits.query] == [8]
    assert [crop.pid for crop in splits.gallery] == [1, 8]
    assert [path.name for _, path, _ in splits.left_out] == ["-2_c1s1_5.jpg"]


def test_all_suffixes_are_read_and_images_of_other_formats_named(tmp_path: Path) -> None:
    suffixes = (".jpg", ".JPG", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
    names = [f"000{number}_c{camera}s1_1{suffix}" for number, suffix in enumerate(suffixes, 1) for camera in (1, 2)]
    root = market(tmp_path, {TRAIN: [*names, "0009_c1s1_1.heic", "Thumbs.db"], QUERY: names[:1], GALLERY: names[1:]})
    splits = read_market(root)
    assert len(splits.train) == 16
    assert [(path.name, pid) for _, path, pid in splits.left_out] == [("0009_c1s1_1.heic", None)]


def test_an_identity_of_more_than_64_bits_breaks_the_convention(tmp_path: Path) -> None:
    root = market(tmp_path, {**FROM_ZERO, TRAIN: ["123456789012345678_c1s1_1.jpg", "0001_c1s1_3.jpg"]})
    assert max(crop.pid for crop in read_market(root).train) == 123456789012345678
    (root / TRAIN / "1234567890123456789_c1s1_1.jpg").touch()
    with pytest.raises(DataError, match=r"1 files of .* are not named .* e\.g\. 1234567890123456789_c1s1_1\.jpg"):
        read_market(root)


def test_a_source_needs_its_training_set_alone(tmp_path: Path) -> None:
    root = market(tmp_path, {TRAIN: FROM_ZERO[TRAIN] + ["0002_c1s1_8.jpg"]})
    splits = read_market(root, ("train",))
    assert (len(splits.train), splits.query, splits.gallery) == (3, [], [])
    with pytest.raises(
        DataError, match=r"has no query and no bounding_box_test\nto train on it .*dataset\.targets=\[\]"
    ):
        read_market(root)


def test_identities_of_one_camera_are_validated_on_their_later_images(tmp_path: Path) -> None:
    names = [f"{pid:04d}_c{pid % 2 + 1}s1_{number:06d}.jpg" for pid in range(1, 21) for number in range(9)]
    train = read_market(market(tmp_path, {TRAIN: names}), ("train",)).train
    held = hold_out(train, 0.2, 0)
    assert held.same_camera
    people = {crop.pid for crop in held.query}
    assert len(people) == len(held.query) == 4
    assert not people & {crop.pid for crop in held.train}
    assert {crop.path.stem[-1] for crop in held.query} == {"0"}
    assert {crop.path.stem[-1] for crop in held.gallery} == {"6", "7", "8"}
    cameras = {crop.pid: crop.cam for crop in held.query}
    assert all(crop.cam not in (0, 1) and crop.cam != cameras[crop.pid] for crop in held.gallery)
    assert {crop.cam for crop in held.distractors} == {0, 1}
    with pytest.raises(DataError, match="only 20 of 20 have two images"):
        hold_out(train, 21, 0)


def test_images_in_folders_below_are_read(tmp_path: Path) -> None:
    """As in MSMT17, a folder for each person; a linked folder, too."""
    root = named(tmp_path / "d", query="0003_c1", gallery="0003_c2")
    for person in (5, 6):
        folder = root / "bounding_box_train" / f"{person:04d}"
        folder.mkdir()
        (folder / f"{person:04d}_c1s1_000001_00.jpg").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0007_c1s1_000001_00.png").touch()
    (root / "bounding_box_train" / "linked").symlink_to(tmp_path / "elsewhere")
    assert {crop.pid for crop in read_market(root).train} == {1, 2, 5, 6, 7}


def named(root: Path, *, train: str = "0001_c1 0001_c2 0002_c1 0002_c2", query: str, gallery: str) -> Path:
    """A dataset of empty files: the reader looks at names alone."""
    for folder, names in zip(FOLDERS, (train, query, gallery), strict=True):
        (root / folder).mkdir(parents=True)
        for number, name in enumerate(names.split()):
            (root / folder / f"{name}s1_{number:06d}_00.jpg").touch()
    return root


class TestReader:
    def test_junk_is_left_out_and_distractors_stay_in_the_gallery(self, tmp_path: Path) -> None:
        root = named(tmp_path, query="0003_c1 -1_c1", gallery="0003_c2 0000_c1 -1_c2")
        splits = read_market(root)
        assert [crop.pid for crop in splits.query] == [3]
        assert sorted(crop.pid for crop in splits.gallery) == [0, 3]

    @pytest.mark.parametrize("nested", ["", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15"])
    def test_the_folder_itself_and_torchreids_nesting_are_accepted(self, nested: str, tmp_path: Path) -> None:
        made = named(tmp_path / nested, query="0003_c1", gallery="0003_c2")
        (made / "gt_bbox").mkdir()
        assert find_root(tmp_path) == made

    def test_missing_folder_shows_the_layout(self, tmp_path: Path) -> None:
        (tmp_path / "bounding_box_train").mkdir()
        with pytest.raises(DataError, match=r"(?s)has no query and no bounding_box_test.*expected layout"):
            find_root(tmp_path)

    def test_strange_names_are_named(self, tmp_path: Path) -> None:
        root = named(tmp_path, query="0003_c1", gallery="0003_c2")
        (root / "query" / "holiday.jpg").touch()
        with pytest.raises(DataError, match=r"holiday\.jpg"):
            read_market(root)

    def test_queries_without_a_match_from_another_camera_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="another camera"):
            read_market(named(tmp_path, query="0003_c1", gallery="0003_c1 0004_c2"))

    def test_reads_what_torchreid_reads(self, small_world: DemoWorld) -> None:
        splits = read_market(small_world.reid)
        names = {path.name for path in (small_world.reid / "query").glob("*.jpg")}
        assert {crop.path.name for crop in splits.query} == names
        train = sorted((small_world.reid / "bounding_box_train").glob("*.jpg"))
        assert [crop.path for crop in splits.train] == train
