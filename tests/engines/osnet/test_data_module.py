"""Runs with several sources and targets, adapted batch normalisation and several views of an image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from osnet.tiny import SMALL
from watchme.config.schema import RunConfig
from watchme.core.interfaces import Table
from watchme.data.demo import DemoWorld, DemoWorldConfig, ensure_demo_world
from watchme.data.formats.market1501 import Crop, read_market
from watchme.engines.osnet.batch_norm_adaptation import adapt_batch_norm
from watchme.engines.osnet.config import Config, ReidDataset
from watchme.engines.osnet.data.augmentation import to_network
from watchme.engines.osnet.data.crop_images import Images, fingerprint
from watchme.engines.osnet.data.loader import TrainSet
from watchme.engines.osnet.data.sampler import Draw
from watchme.engines.osnet.embed_and_rank import Embedder, Ranking, metrics_of
from watchme.engines.osnet.model import ReidNet

Run = Callable[..., Any]
Typed = Callable[..., RunConfig]
TINY = (*SMALL, "dataset=several", "dataset.val_identities=4", "train.epochs=1", "evaluation.visrank=1")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def other_world(own_cache: Path) -> DemoWorld:
    return ensure_demo_world(DemoWorldConfig(identities=12, cameras=2, frame_size=160, walk_length=3, seed=1))


@pytest.fixture(scope="module")
def roots(small_world: DemoWorld, other_world: DemoWorld) -> str:
    return f"dataset.roots={{here:'{small_world.reid}',there:'{other_world.reid}'}}"


@pytest.fixture(scope="module")
def adapted_run(run_engine: Run, roots: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_engine(
        tmp_path_factory.mktemp("adapted"),
        *TINY,
        roots,
        "dataset.sources=[here]",
        "dataset.targets=[there]",
        "dataset.val_identities=3",
        "dataset.load_train_targets=true",
    )


@pytest.fixture(scope="module")
def two_and_two(run_engine: Run, roots: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_engine(tmp_path_factory.mktemp("two"), *TINY, roots, "dataset.sources=[here,there]")


def test_a_fingerprint_is_of_images_and_whom_they_show(tmp_path: Path) -> None:
    """Read by another pattern the same files show other people, and runs on both were ranked beside each other."""

    def crops(root: str, size: int = 3, pid: int = 1, cam: int = 0) -> list[Crop]:
        (tmp_path / root).mkdir(exist_ok=True)
        (tmp_path / root / "query").mkdir(exist_ok=True)
        path = tmp_path / root / "query" / "a.jpg"
        path.write_bytes(bytes(size))
        return [Crop(path, pid, cam)]

    first = fingerprint(crops("a"))
    assert fingerprint(crops("elsewhere")) == first
    others = [fingerprint(crops("a", **change)) for change in ({"size": 4}, {"pid": 2}, {"cam": 1})]
    assert len({first, *others}) == 4


class TestTwoSourcesTwoTargets:
    def test_the_classifier_has_the_identities_of_both(
        self, two_and_two: Any, small_world: DemoWorld, other_world: DemoWorld
    ) -> None:
        people = [{crop.pid for crop in read_market(world.reid).train} for world in (small_world, other_world)]
        last = torch.load(two_and_two.folder / "weights" / "last.pt", weights_only=True)
        assert last["num_classes"] == len(people[0]) + len(people[1]) - 4

    def test_each_target_has_its_metrics_and_test_map_is_the_mean(self, two_and_two: Any) -> None:
        metrics = two_and_two.result.metrics
        for name in ("map", "minp", "rank1", "rank20"):
            assert metrics[f"test/{name}"] == pytest.approx(
                (metrics[f"test/here/{name}"] + metrics[f"test/there/{name}"]) / 2
            )
        assert {"val/map", "val/rank1"} <= set(metrics)
        tables = {item.name for item in two_and_two.shown if isinstance(item, Table)}
        names = ("per_query", "cmc_curve", "camera_pairs", "hardest_identities")
        assert tables == {f"test/{target}/{name}" for target in ("here", "there") for name in names}

    def test_a_target_alone_is_tested_as_before(
        self, two_and_two: Any, run_engine: Run, roots: str, tmp_path: Path
    ) -> None:
        done = run_engine(
            tmp_path,
            *TINY,
            roots,
            "dataset.sources=[here,there]",
            "dataset.targets=[there]",
            "mode=evaluate",
            f"checkpoint={two_and_two.folder}/weights/best.pt",
        )
        assert set(done.result.metrics) == {
            f"test/{name}" for name in ("map", "minp", "rank1", "rank5", "rank10", "rank20")
        }
        assert done.result.metrics["test/map"] == pytest.approx(two_and_two.result.metrics["test/there/map"])

    def test_the_manifest_says_what_was_read(self, two_and_two: Any, small_world: DemoWorld) -> None:
        told = two_and_two.manifest["dataset"]
        assert set(told["root"]) == {"here", "there"}
        assert told["splits"]["here/train"]["images"] == len(read_market(small_world.reid).train)
        assert set(told["splits"]) == {
            f"{name}/{part}" for name in ("here", "there") for part in ("train", "query", "gallery")
        }


def test_an_undefined_metric_is_undefined_in_the_mean() -> None:
    nothing: Any = None
    rankings = {
        f"test/{name}": Ranking({f"test/{name}/map": value}, nothing, nothing, nothing)
        for name, value in (("a", 0.5), ("b", float("nan")))
    }
    assert np.isnan(metrics_of(rankings)["test/map"])


class TestAdaptedBatchNorm:
    @pytest.fixture
    def config(self, typed_config: Typed, small_world: DemoWorld) -> Config:
        config = typed_config(
            "model=osnet_x0_25", "dataset=market1501", f"dataset.root={small_world.reid}", "evaluation.batch_size=8"
        )
        assert isinstance(config, Config)
        return config

    def test_statistics_are_those_of_the_images(self, config: Config, small_world: DemoWorld) -> None:
        """The first layer against its input, computed apart; the images are cut so that all batches are full."""
        crops = list(read_market(small_world.reid).train)[:32]
        images = Images(crops, (64, 32), "ram")
        torch.manual_seed(0)
        model = ReidNet("osnet_x0_25", 5)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        adapted = adapt_batch_norm(model, images, Embedder(config, CPU))
        pixels = to_network(torch.stack([torch.from_numpy(images[n]) for n in range(32)]))
        with torch.no_grad():
            seen = model.backbone.conv1.conv(pixels)
        layer = adapted.backbone.conv1.bn
        torch.testing.assert_close(layer.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        # The mean of the batches' variances, whose order is mixed: near that of all.
        torch.testing.assert_close(layer.running_var, seen.var((0, 2, 3)), rtol=0.2, atol=1e-3)
        assert layer.momentum == model.backbone.conv1.bn.momentum
        for name, value in adapted.state_dict().items():
            if "running" not in name and "num_batches" not in name:
                assert torch.equal(value, before[name]), name
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not any(module.training for module in adapted.modules())

    def test_a_full_gpu_halves_the_batches(
        self, typed_config: Typed, small_world: DemoWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The statistics are those of the batches that fit, as if these had been asked for."""
        images = Images(list(read_market(small_world.reid).train)[:32], (64, 32), "ram")
        options = ("model=osnet_x0_25", "dataset=market1501", f"dataset.root={small_world.reid}")
        torch.manual_seed(0)
        model = ReidNet("osnet_x0_25", 5)
        asked, free = (cast(Config, typed_config(*options, f"evaluation.batch_size={size}")) for size in (12, "null"))
        expected = adapt_batch_norm(model, images, Embedder(asked, CPU)).state_dict()
        embed = ReidNet.embed

        def full(self: ReidNet, batch: torch.Tensor) -> torch.Tensor:
            if len(batch) > 12:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return embed(self, batch)

        monkeypatch.setattr(ReidNet, "embed", full)
        said: list[str] = []
        found = adapt_batch_norm(model, images, Embedder(free, CPU, said.append)).state_dict()
        assert said[-1].endswith(": 12 from here on")
        torch.testing.assert_close(dict(found), dict(expected), rtol=0, atol=0)

    def test_a_run_tests_and_keeps_adapted_weights(
        self, adapted_run: Any, run_engine: Run, roots: str, tmp_path: Path
    ) -> None:
        assert any("load_train_targets" in text for text in adapted_run.fallbacks)
        assert adapted_run.manifest["adapted_to_targets"].keys() == {"there"}
        metrics = {}
        for name in ("best", "best_there"):
            done = run_engine(
                tmp_path / name,
                *TINY,
                roots,
                "dataset.sources=[there]",
                "mode=evaluate",
                f"checkpoint={adapted_run.folder}/weights/{name}.pt",
            )
            metrics[name] = done.result.metrics["test/map"]
        assert metrics["best_there"] == pytest.approx(adapted_run.result.metrics["test/map"])
        assert metrics["best"] != pytest.approx(adapted_run.result.metrics["test/map"])
        assert adapted_run.result.weights["best_there"].is_file()


class TestSeveralViews:
    @pytest.fixture
    def images(self, small_world: DemoWorld) -> Images:
        return Images(list(read_market(small_world.reid).train), (64, 32), "ram")

    def train_set(self, images: Images, typed_config: Typed, views: int) -> TrainSet:
        config = typed_config("model=osnet_x0_25", "augmentation=reid_strong")
        assert isinstance(config, Config)
        classes = {pid: place for place, pid in enumerate(sorted({crop.pid for crop in images.crops}))}
        dataset = ReidDataset(task="reid", name="market1501", k_tfm=views)
        return TrainSet(images, classes, config.augmentation, dataset)

    def test_each_image_comes_k_times_augmented_apart(self, images: Images, typed_config: Typed) -> None:
        draws = [Draw(image, 0, 1, place) for place, image in enumerate((3, 20, 7))]
        one, three = (self.train_set(images, typed_config, views).__getitems__(draws) for views in (1, 3))
        assert three.images.shape == (9, 64, 32, 3)
        assert three.indices.tolist() == [3, 3, 3, 20, 20, 20, 7, 7, 7]
        assert torch.equal(three.labels, one.labels.repeat_interleave(3))
        assert torch.equal(three.images[::3], one.images)
        for start in (0, 3, 6):
            assert not torch.equal(three.images[start], three.images[start + 1])
            assert not torch.equal(three.images[start + 1], three.images[start + 2])

    def test_views_depend_on_their_draw_alone(self, images: Images, typed_config: Typed) -> None:
        dataset = self.train_set(images, typed_config, 2)
        draws = [Draw(image, 0, 1, place) for place, image in enumerate((3, 20))]
        together, alone = dataset.__getitems__(draws), dataset.__getitems__(draws[1:])
        assert torch.equal(together.images[2:], alone.images)
        assert not torch.equal(dataset.__getitems__([replace_epoch(draws[1])]).images, alone.images)

    def test_a_run_with_views_trains_on_more(
        self, adapted_run: Any, run_engine: Run, roots: str, tmp_path: Path
    ) -> None:
        options = (roots, "dataset.sources=[here]", "dataset.val_identities=3", "dataset.k_tfm=2")
        done = run_engine(tmp_path, *TINY, *options)
        # From the same weights, images and batches.
        assert done.events[0].metrics == adapted_run.events[0].metrics
        assert done.events[1].metrics["train/loss"] != adapted_run.events[1].metrics["train/loss"]


def replace_epoch(draw: Draw) -> Draw:
    return draw._replace(epoch=draw.epoch + 1)
