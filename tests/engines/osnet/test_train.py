"""The OSNet engine end to end, on small drawn people and on real ones."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchreid.reid import models

from osnet.tiny import TINY
from watchme.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from watchme.core.interfaces import EpochEvent, Stop, Table
from watchme.data.demo import DemoWorld
from watchme.engines.osnet.initial_weights import load_weights
from watchme.engines.osnet.model import ReidNet

Run = Callable[..., Any]
SHORT = (*TINY, "evaluation.visrank=2", "optimizer.lr=0.001")


@pytest.fixture(scope="module")
def tiny(small_world: DemoWorld) -> tuple[str, ...]:
    return (*SHORT, f"dataset.root={small_world.reid}")


@pytest.fixture(scope="module")
def trained(run_engine: Run, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_engine(tmp_path_factory.mktemp("trained"), *tiny, "train.epochs=3")


def curve(events: list[EpochEvent]) -> list[dict[str, float]]:
    return [{"epoch": event.epoch, **event.metrics} for event in events]


def test_one_evaluation_before_the_first_epoch_then_one_event_an_epoch(trained: Any) -> None:
    assert [event.epoch for event in trained.events] == [0, 1, 2, 3]
    assert not any(name.startswith("train/") for name in trained.events[0].metrics)
    for event in trained.events[1:]:
        assert {"train/loss", "train/softmax_loss", "train/triplet_loss", "train/lr", "val/map"} <= set(event.metrics)
        assert {"time/epoch_s", "perf/images_per_s", "perf/data_wait_share"} <= set(event.timings)
    for name in ("val/map", "val/minp", "val/rank1", "val/rank5", "val/rank10", "val/rank20"):
        assert 0 <= trained.events[-1].metrics[name] <= 1


def test_the_dataset_was_checked_in_short_form(trained: Any) -> None:
    assert trained.manifest["check"]["short"] is True
    assert trained.manifest["check"]["errors"] == 0


def test_test_split_is_evaluated_once_with_the_best_weights(
    trained: Any, run_engine: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    assert not any(name.startswith("test/") for event in trained.events for name in event.metrics)
    again = run_engine(tmp_path, *tiny, "mode=evaluate", f"checkpoint={trained.folder}/weights/best.pt")
    for name, value in again.result.metrics.items():
        assert trained.result.metrics[name] == pytest.approx(value, abs=1e-6)
    tables = [item for item in trained.shown if isinstance(item, Table)]
    assert tables[0].name == "test/per_query"


def test_best_checkpoint_is_of_the_best_epoch(trained: Any) -> None:
    values = {event.epoch: event.metrics["val/map"] for event in trained.events[1:]}
    best = torch.load(trained.folder / "weights" / "best.pt", weights_only=True)
    assert best["epoch"] == trained.result.best_epoch
    assert values[best["epoch"]] == max(values.values()) == trained.result.objective


def test_same_seed_same_metrics(trained: Any, run_engine: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
    again = run_engine(tmp_path, *tiny, "train.epochs=3", "train.workers=2")
    assert curve(again.events) == curve(trained.events)
    assert again.result.metrics == trained.result.metrics


def test_resumed_run_is_bit_for_bit_the_one_that_never_stopped(
    trained: Any, run_engine: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """Killed inside epoch 2, whose event was told but whose checkpoint was not written."""

    class Killed(BaseException):
        pass

    def kill(event: EpochEvent) -> Stop | None:
        if event.epoch == 2:
            raise Killed
        return None

    with pytest.raises(Killed):
        run_engine(tmp_path, *tiny, "train.epochs=3", emit=kill)
    resumed = run_engine(tmp_path, *tiny, "train.epochs=3", f"train.resume={tmp_path}")
    assert resumed.resumed == [1]
    assert curve(resumed.events) == curve(trained.events)[2:]
    for name in ("best.pt", "last.pt"):
        ours, theirs = (torch.load(f / "weights" / name, weights_only=True) for f in (tmp_path, trained.folder))
        for key, value in theirs["state_dict"].items():
            assert torch.equal(ours["state_dict"][key], value), key


def test_the_backend_loads_what_is_saved(trained: Any) -> None:
    """It builds the model with loss='triplet', drops classifier keys and skips what it does not know."""
    state = torch.load(trained.folder / "weights" / "best.pt", weights_only=True)["state_dict"]
    model = models.build_model("osnet_x0_25", num_classes=751, loss="triplet", pretrained=False)
    body = {name for name in model.state_dict() if not name.startswith("classifier")}
    assert {name for name in state if not name.startswith("classifier")} == body


def test_our_wrapper_computes_what_torchreids_model_does() -> None:
    net = ReidNet("osnet_x0_25", 7)
    images = torch.randn(4, 3, 64, 32)
    net.train()
    reference = net.backbone(images)
    for ours, theirs in zip(net(images)[:2], reference, strict=True):
        torch.testing.assert_close(ours, theirs)
    net.eval()
    torch.testing.assert_close(net.embed(images), net.backbone(images))


def test_early_stop_ends_with_the_best_weights(run_engine: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run_engine(
        tmp_path, *tiny, "train.epochs=9", emit=lambda event: Stop("enough", "pruned") if event.epoch == 1 else None
    )
    assert done.result.epochs == 1
    assert (tmp_path / "weights" / "best.pt").is_file()


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=softmax", "train.sampler=random"),
        ("loss=triplet",),
        ("model.bnneck=true", "train.ema_decay=0.9", "train.accumulate=2", "train.clip_grad_norm=1.0"),
        ("train.fixbase_epochs=1", "train.new_layers=[classifier]", "augmentation=reid_strong"),
        ("model.freeze=[conv1*,conv2*]", "augmentation.random_patch=1.0", "evaluation.flip_test=true"),
    ],
    ids=" ".join,
)
def test_options_train(overrides: tuple[str, ...], run_engine: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run_engine(tmp_path, *tiny, "train.epochs=1", *overrides)
    assert math.isfinite(done.events[-1].metrics["train/loss"])
    assert math.isfinite(done.result.metrics["test/map"])


def test_frozen_and_fixed_layers_do_not_move(run_engine: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    run_engine(tmp_path / "a", *tiny, "train.epochs=1", "train.fixbase_epochs=1")
    moved = torch.load(tmp_path / "a" / "weights" / "last.pt", weights_only=True)["state_dict"]
    from watchme.core.seed import seed_everything

    seed_everything(0, deterministic=True)
    fresh = ReidNet("osnet_x0_25", moved["classifier.weight"].shape[0]).backbone.state_dict()
    assert all(torch.equal(value, moved[name]) for name, value in fresh.items() if not name.startswith("classifier"))
    assert not torch.equal(fresh["classifier.weight"], moved["classifier.weight"])


class TestBadInput:
    @pytest.fixture
    def broken(self, small_world: DemoWorld, tmp_path: Path) -> tuple[Path, Path]:
        root = tmp_path / "data"
        shutil.copytree(small_world.reid, root)
        image = sorted((root / "bounding_box_train").glob("*.jpg"))[5]
        image.write_bytes(image.read_bytes()[:300])
        return root, image

    @pytest.mark.parametrize(
        "options",
        [
            ("train.workers=2",),
            ("dataset.cache=ram",),
            ("train.workers=0",),
            pytest.param(("train.device=cpu", "train.processes=2"), marks=pytest.mark.slow),
        ],
    )
    def test_truncated_image_is_named(
        self, options: tuple[str, ...], broken: tuple[Path, Path], run_engine: Run, tmp_path: Path
    ) -> None:
        root, image = broken
        with pytest.raises(DataError) as caught:
            run_engine(tmp_path / "run", *SHORT, f"dataset.root={root}", "train.epochs=2", *options)
        assert str(image) in str(caught.value)
        assert "Traceback" not in str(caught.value)

    def test_loss_that_is_not_finite_names_the_batch(
        self, run_engine: Run, tiny: tuple[str, ...], tmp_path: Path
    ) -> None:
        with pytest.raises(TrainingError, match=r"(?s)lower optimizer\.lr.*\.jpg"):
            run_engine(tmp_path, *tiny, "train.epochs=3", "optimizer=sgd", "optimizer.lr=1e18")

    def test_classifier_that_is_too_small(self, run_engine: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"the training set has \d identities"):
            run_engine(tmp_path, *tiny, "train.epochs=1", "model.num_classes=3")

    def test_weights_of_another_model_are_refused_with_a_table(self, trained: Any) -> None:
        net = ReidNet("osnet_ain_x1_0", 5)
        with pytest.raises(CheckpointError, match=r"(?s)does not fit.*tensors not in the model"):
            load_weights(net.backbone, trained.folder / "weights" / "best.pt", keep_classifier=False, min_matched=0.9)

    def test_module_prefixes_are_understood(self, trained: Any, tmp_path: Path) -> None:
        state = torch.load(trained.folder / "weights" / "best.pt", weights_only=True)["state_dict"]
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pth")
        net = ReidNet("osnet_x0_25", 99)
        load_weights(net.backbone, tmp_path / "w.pth", keep_classifier=False, min_matched=1.0)
        assert torch.equal(net.backbone.state_dict()["conv1.conv.weight"], state["conv1.conv.weight"])

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
    def test_damaged_checkpoint_is_named(
        self, content: bytes, run_engine: Run, tiny: tuple[str, ...], tmp_path: Path
    ) -> None:
        path = tmp_path / "broken.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"broken\.pth"):
            run_engine(tmp_path / "run", *tiny, "mode=evaluate", f"checkpoint={path}")


REFERENCE = {
    "euclidean": {
        "test/map": 0.697909,
        "test/rank1": 0.826923,
        "test/rank5": 1.0,
        "test/minp": 0.459453,
        "test/map_reranked": 0.810722,
        "test/rank1_reranked": 0.865385,
    },
    "cosine": {
        "test/map": 0.742240,
        "test/rank1": 0.846154,
        "test/rank5": 0.990385,
        "test/minp": 0.525794,
        "test/map_reranked": 0.855227,
        "test/rank1_reranked": 0.903846,
    },
}


@pytest.mark.real
@pytest.mark.parametrize("distance", REFERENCE)
def test_reference_values_of_real_people(distance: str, run_engine: Run, real_data: Path, tmp_path: Path) -> None:
    done = run_engine(
        tmp_path,
        "mode=evaluate",
        "model=osnet_x0_25",
        "dataset=market1501",
        "model.weights=null",
        f"dataset.root={real_data}/market1501_mini",
        f"checkpoint={real_data}/weights/osnet_x0_25_msmt17.pth",
        f"evaluation.distance={distance}",
        "evaluation.rerank=true",
        "train.workers=0",
    )
    found = {name: done.result.metrics[name] for name in REFERENCE[distance]}
    assert found == pytest.approx(REFERENCE[distance], abs=1e-4)


def test_checkpoint_metrics_are_plain(trained: Any) -> None:
    last = torch.load(trained.folder / "weights" / "last.pt", weights_only=True)
    assert json.loads(json.dumps(last["metrics"])) == last["metrics"]
