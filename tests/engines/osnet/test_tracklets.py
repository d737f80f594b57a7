"""Video re-ID: tracklets as torchreid reads them, samples them and embeds them; runs on the demo world's."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchreid.reid.data import datasets as theirs
from torchreid.reid.data.datasets import dataset as their_dataset
from torchreid.reid.data.transforms import build_transforms
from torchreid.reid.engine.video import VideoSoftmaxEngine

from watchme.config.schema import RunConfig
from watchme.core.errors import DataError
from watchme.core.interfaces import EpochEvent, Table
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import Crop, read_market
from watchme.engines.osnet.config import Config, ReidDataset
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.datasets import read_datasets
from watchme.engines.osnet.data.loader import TrainSet
from watchme.engines.osnet.data.sampler import Draw
from watchme.engines.osnet.data.tracklets import sample_frames, thinned
from watchme.engines.osnet.embed_and_rank import Embedder
from watchme.engines.osnet.model import ReidNet
from watchme.metrics.retrieval import evaluate_features

Run = Callable[..., Any]
Typed = Callable[..., RunConfig]
CPU = torch.device("cpu")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make_dukemtmcvidreid(root: Path) -> None:
    base = root / "dukemtmc-vidreid" / "DukeMTMC-VideoReID"
    for part, people in (("train", (1, 2, 3)), ("query", (7, 8)), ("gallery", (7, 8, 9))):
        for pid in people:
            for cam in (2,) if part == "query" else (2, 5):
                folder = base / part / f"{pid:04d}" / f"{cam:04d}"
                touch(*(folder / f"{pid:04d}_C{cam}_F{frame:04d}_X{frame * 8}.jpg" for frame in range(1, 13)))


def make_mars(root: Path) -> None:
    base = root / "mars"
    for part, tracks in (
        ("train", [(1, 1), (1, 2), (3, 1), (3, 4)]),
        ("test", [(5, 1), (5, 2), (6, 1), (6, 3), (0, 2), (-1, 1)]),
    ):
        names: list[str] = []
        rows = []
        for number, (pid, cam) in enumerate(tracks):
            person = "00-1" if pid < 0 else f"{pid:04d}"
            made = [f"{person}C{cam}T{number:04d}F{frame:03d}.jpg" for frame in range(1, 4 + number)]
            rows.append((len(names) + 1, len(names) + len(made), pid, cam))
            names += made
            touch(*(base / f"bbox_{part}" / person / name for name in made))
        (base / "info").mkdir(exist_ok=True)
        (base / "info" / f"{part}_name.txt").write_text("".join(f"{name}\n" for name in names))
        savemat(base / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": np.array(rows)})
    savemat(base / "info" / "query_IDX.mat", {"query_IDX": np.array([[1, 3]])})


def make_prid2011(root: Path) -> None:
    base = root / "prid2011"
    names = [f"person_{pid:04d}" for pid in range(1, 7)]
    for cam in "ab":
        touch(
            *(
                base / "prid_2011" / "multi_shot" / f"cam_{cam}" / name / f"{n:04d}.png"
                for name in names
                for n in range(5)
            )
        )
    text = str([{"train": names[:3], "test": names[3:]}, {"train": names[3:], "test": names[:3]}])
    (base / "splits_prid2011.json").write_text(text.replace("'", '"'))


def make_ilidsvid(root: Path) -> None:
    base = root / "ilids-vid"
    for cam in (1, 2):
        touch(
            *(
                base / "i-LIDS-VID" / "sequences" / f"cam{cam}" / f"person{pid:03d}" / f"cam{cam}_{n:05d}.png"
                for pid in range(300)
                for n in range(2)
            )
        )
    drawn = np.stack([np.random.default_rng(number).permutation(300) + 1 for number in range(10)])
    (base / "train-test people splits").mkdir()
    savemat(base / "train-test people splits" / "train_test_splits_ilidsvid.mat", {"ls_set": drawn})


MAKERS = {
    "dukemtmcvidreid": make_dukemtmcvidreid,
    "mars": make_mars,
    "prid2011": make_prid2011,
    "ilidsvid": make_ilidsvid,
}


def tracks(rows: Iterable[tuple[Any, int, int]]) -> set[frozenset[tuple[frozenset[str], int]]]:
    """The tracklets of each identity with their cameras, whatever the identities are called."""
    people = defaultdict(set)
    for paths, pid, cam in rows:
        people[pid].add((frozenset(map(str, paths)), int(cam)))
    return {frozenset(found) for found in people.values()}


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in MAKERS), ("prid2011", {"split_id": 1}), ("dukemtmcvidreid", {"combineall": True})],
    ids=lambda value: value if isinstance(value, str) else str(value),
)
def test_tracklets_are_torchreids(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    dataset = ReidDataset(task="reid", name=name, format=name, tracklets=True, **options)  # type: ignore[arg-type]
    ours = read_datasets(dataset, tmp_path).sources[name]
    reference = theirs.init_video_dataset(name, root=str(tmp_path), verbose=False, transform=str, **options)
    for part in ("train", "query", "gallery"):
        mine = [(crop.frames, crop.pid, crop.cam) for crop in getattr(ours, part)]
        assert tracks(mine) == tracks(row[:3] for row in getattr(reference, part))
        assert all(list(crop.frames) == sorted(crop.frames) for crop in getattr(ours, part))


class TestMarketNaming:
    def test_images_are_grouped_by_identity_camera_and_sequence(self, tmp_path: Path) -> None:
        for folder, names in (
            ("bounding_box_train", "0001_c1s1_1 0001_c1s1_2 0001_c1s2_3 0001_c2s1_1 0002_c1s1_1"),
            ("query", "0003_c1s1_1"),
            ("bounding_box_test", "0003_c2s1_1 0003_c2s1_2 0000_c1s1_1 0000_c1s1_2 -1_c1s1_1"),
        ):
            touch(*(tmp_path / folder / f"{name}.jpg" for name in names.split()))
        splits = read_market(tmp_path, tracklets=True)
        found = [(crop.pid, crop.cam, [path.stem for path in crop.frames]) for crop in splits.train]
        assert found == [
            (1, 0, ["0001_c1s1_1", "0001_c1s1_2"]),
            (1, 0, ["0001_c1s2_3"]),
            (1, 1, ["0001_c2s1_1"]),
            (2, 0, ["0002_c1s1_1"]),
        ]
        # Distractors are not one person, and junk is none.
        assert Counter((crop.pid, len(crop.frames)) for crop in splits.gallery) == {(3, 2): 1, (0, 1): 2}

    def test_no_image_of_the_demo_world_is_lost(self, small_world: DemoWorld) -> None:
        images, tracklets = read_market(small_world.reid), read_market(small_world.reid, tracklets=True)
        for part in ("train", "query", "gallery"):
            paths = [path for crop in getattr(tracklets, part) for path in crop.files]
            assert sorted(paths) == [crop.path for crop in getattr(images, part)]
        assert len(tracklets.train) < len(images.train)


class TestSampling:
    @pytest.fixture
    def their_choice(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int, str], list[int]]:
        monkeypatch.setattr(their_dataset, "read_image", int)

        def choose(count: int, length: int, method: str) -> list[int]:
            rows = [(tuple(map(str, range(count))), 0, 0)]
            dataset = their_dataset.VideoDataset(
                rows, rows, rows, seq_len=length, sample_method=method, transform=torch.tensor, verbose=False
            )
            return [int(value) for value in dataset[0]["img"]]

        return choose

    @pytest.mark.parametrize("method", ["evenly", "all"])
    @pytest.mark.parametrize("length", [1, 4, 7, 15])
    def test_as_torchreid(self, method: str, length: int, their_choice: Callable[[int, int, str], list[int]]) -> None:
        rng = np.random.default_rng(0)
        for count in range(1, 50):
            assert sample_frames(count, length, method, rng) == their_choice(count, length, method)

    @pytest.mark.parametrize(("count", "length"), [(3, 5), (5, 5), (12, 5)])
    def test_random_draws_each_image_as_often(
        self, count: int, length: int, their_choice: Callable[[int, int, str], list[int]]
    ) -> None:
        rng = np.random.default_rng(0)
        np.random.seed(0)
        ours: Counter[int] = Counter()
        theirs_: Counter[int] = Counter()
        for _ in range(600):
            chosen = sample_frames(count, length, "random", rng)
            assert chosen == sorted(chosen)
            assert len(chosen) == length
            assert count < length or len(set(chosen)) == length
            ours += Counter(chosen)
            theirs_ += Counter(their_choice(count, length, "random"))
        for frame in range(count):
            assert ours[frame] == pytest.approx(theirs_[frame], rel=0.25)


SETTINGS = ("dataset.tracklets=true", "dataset.seq_len=3", "dataset.height=64", "dataset.width=32")


@pytest.fixture
def config(typed_config: Typed, small_world: DemoWorld) -> Config:
    config = typed_config("model=osnet_x0_25", "dataset=market1501", f"dataset.root={small_world.reid}", *SETTINGS)
    assert isinstance(config, Config)
    return config


def test_an_embedding_is_the_mean_that_torchreids_engine_computes(config: Config, small_world: DemoWorld) -> None:
    crops = list(read_market(small_world.reid, tracklets=True).gallery)[:7]
    torch.manual_seed(0)
    model = ReidNet("osnet_x0_25", 5).eval()
    images = Images(thinned(crops, config.dataset), (64, 32), "none")
    ours = Embedder(config, CPU).embed(model, images)
    rows = [(tuple(map(str, crop.frames)), crop.pid, crop.cam) for crop in crops]
    _, transform = build_transforms(64, 32, transforms=[])
    reference = their_dataset.VideoDataset(rows, rows, rows, seq_len=3, transform=transform, verbose=False)
    engine = VideoSoftmaxEngine.__new__(VideoSoftmaxEngine)
    engine.model, engine.pooling_method = model.backbone, "avg"
    with torch.no_grad():
        expected = engine.extract_features(torch.stack([reference[number]["img"] for number in range(len(rows))]))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


class TestTrainingBatches:
    def train_set(self, crops: list[Crop], config: Config, **options: Any) -> TrainSet:
        classes = {pid: place for place, pid in enumerate(sorted({crop.pid for crop in crops}))}
        dataset = ReidDataset(task="reid", name="market1501", tracklets=True, **options)
        return TrainSet(Images(crops, (64, 32), "ram"), classes, config.augmentation, dataset)

    def test_a_tracklet_brings_its_images_under_its_label(self, config: Config, small_world: DemoWorld) -> None:
        """As torchreid's engine, which repeats the label for each image and augments each on its own."""
        crops = list(read_market(small_world.reid, tracklets=True).train)
        dataset = self.train_set(crops, config, seq_len=4)
        batch = dataset.__getitems__([Draw(2, 0, 1, 0), Draw(5, 0, 1, 1)])
        assert batch.images.shape == (8, 64, 32, 3)
        assert batch.indices.tolist() == [2] * 4 + [5] * 4
        assert batch.labels.tolist() == [dataset.classes[crops[2].pid]] * 4 + [dataset.classes[crops[5].pid]] * 4

    def test_all_takes_each_image_once(self, config: Config, small_world: DemoWorld) -> None:
        crops = list(read_market(small_world.reid, tracklets=True).train)
        dataset = self.train_set(crops, config, sample_method="all")
        batch = dataset.__getitems__([Draw(number, 0, 1, number) for number in range(3)])
        assert len(batch.images) == sum(len(crop.frames) for crop in crops[:3])

    def test_random_changes_with_the_epoch_alone(self, config: Config, small_world: DemoWorld) -> None:
        crops = [max(read_market(small_world.reid, tracklets=True).train, key=lambda crop: len(crop.frames))]
        dataset = self.train_set(crops * 2, config, seq_len=2, sample_method="random")
        seen = [[each.file for each in dataset.views(Draw(0, 0, epoch, 0))] for epoch in (1, 2, 3, 4, 5, 1)]
        assert seen[0] == seen[-1]
        assert len({tuple(files) for files in seen}) > 1


@pytest.fixture(scope="module")
def trained(run_engine: Run, small_world: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_engine(tmp_path_factory.mktemp("tracklets"), *run_options(small_world), "train.epochs=2")


def run_options(world: DemoWorld) -> tuple[str, ...]:
    return (
        "model=osnet_x0_25",
        "dataset=market1501",
        "model.weights=null",
        f"dataset.root={world.reid}",
        *SETTINGS,
        "dataset.val_identities=3",
        "train.batch_size=8",
        "train.num_instances=2",
        "train.workers=0",
        "evaluation.visrank=1",
    )


def test_a_run_trains_on_tracklets_and_tests_them(trained: Any, small_world: DemoWorld) -> None:
    """The test's figures again, from features that are pooled by a plain loop over torchreid's model."""
    assert trained.manifest["dataset"]["splits"]["train"]["tracklets"] > 0
    splits = read_market(small_world.reid, tracklets=True)
    model = ReidNet("osnet_x0_25", torch.load(trained.result.weights["best"], weights_only=True)["num_classes"]).eval()
    model.backbone.load_state_dict(torch.load(trained.result.weights["best"], weights_only=True)["state_dict"])
    _, transform = build_transforms(64, 32, transforms=[])

    @torch.no_grad()
    def pooled(crops: Iterable[Crop]) -> torch.Tensor:
        rows = []
        for crop in crops:
            chosen = [
                crop.frames[place] for place in sample_frames(len(crop.frames), 3, "evenly", np.random.default_rng())
            ]
            frames = [transform(their_dataset.read_image(str(path))) for path in chosen]
            rows.append(torch.stack([model.backbone(frame[None])[0] for frame in frames]).mean(0))
        return torch.stack(rows)

    ids = [[getattr(crop, key) for crop in part] for key in ("pid", "cam") for part in (splits.query, splits.gallery)]
    expected = evaluate_features(pooled(splits.query), pooled(splits.gallery), *ids)
    assert trained.result.metrics["test/map"] == pytest.approx(expected.map, abs=1e-3)
    assert trained.result.metrics["test/rank1"] == pytest.approx(expected.rank(1), abs=1e-3)
    (table,) = (item for item in trained.shown if isinstance(item, Table) and item.name == "test/per_query")
    assert len(table.rows) == len(splits.query)


def test_a_run_on_tracklets_is_resumed_bit_for_bit(
    trained: Any, run_engine: Run, small_world: DemoWorld, tmp_path: Path
) -> None:
    options = (*run_options(small_world), "train.epochs=2")

    def stop(event: EpochEvent) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt  # before the checkpoint of epoch 2 is written

    with pytest.raises(KeyboardInterrupt):
        run_engine(tmp_path, *options, emit=stop)
    resumed = run_engine(tmp_path, *options, f"train.resume={tmp_path}")
    assert resumed.resumed == [1]
    assert resumed.result.metrics == trained.result.metrics
    ours, theirs = (torch.load(each / "weights" / "last.pt", weights_only=True) for each in (tmp_path, trained.folder))
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name


def test_an_image_that_cannot_be_read_is_named(config: Config, tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    frames = (tmp_path / "a.jpg", tmp_path / "b.jpg")
    images = Images([Crop(frames[0], 1, 0, frames=frames)], (64, 32), "none")
    with pytest.raises(DataError, match=r"a\.jpg cannot be read"):
        Embedder(config, CPU).embed(ReidNet("osnet_x0_25", 5), images)
