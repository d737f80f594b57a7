"""Training, against ultralytics called directly; epoch events; selection; stopping; what is left behind."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchme.core.errors import ConfigError, DataError, TrainingError
from watchme.core.interfaces import Stop
from watchme.engines.yolo import arguments
from watchme.engines.yolo.checked_copy import prepare
from watchme.engines.yolo.data_yaml import read_layout
from watchme.engines.yolo.preparation import announce_workers
from yolo.conftest import Tiny
from yolo.world import Recorder, Trained, draw_dataset, train

Folder = Callable[[str], Path]


def results_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "time"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def reference(short: Trained, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same training by ultralytics alone, on the user's own files."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    root = tmp_path_factory.mktemp("reference")
    (root / "data.yaml").write_text(f"path: {drawn}\ntrain: images/train\nval: images/val\nnames: [person]\n")
    given: dict[str, Any] = arguments.training_arguments(
        short.config,
        model="yolo11n.yaml",
        data=str(root / "data.yaml"),
        save_dir=str(root / "run"),
        device="cpu",
    )
    DetectionTrainer(overrides=given).train()
    for cache in (drawn / "labels").glob("*.cache"):
        cache.unlink()
    return root / "run"


def test_equals_ultralytics_called_directly(short: Trained, reference: Path) -> None:
    assert results_of(short.folder / "yolo") == results_of(reference)


def test_points_within_epochs_have_the_epochs_mean_loss_and_its_last_learning_rate(short: Trained) -> None:
    points, events = short.recorder.steps, short.recorder.events
    assert [point.step for point in points] == list(range(1, len(points) + 1))
    count = len(points) // len(events)
    for number, event in enumerate(events):
        epoch = points[number * count : (number + 1) * count]
        losses = [point.metrics["step/loss"] for point in epoch]
        assert sum(losses) / count == pytest.approx(event.metrics["train/loss"], rel=1e-4)
        assert epoch[-1].metrics["step/lr"] == pytest.approx(event.metrics["train/lr"])
        assert all(point.metrics["step/images_per_s"] > 0 for point in epoch)


def test_the_dataset_was_checked_in_short_form(short: Trained, tiny: Tiny, tmp_path: Path) -> None:
    check = short.recorder.manifest["check"]
    assert (check["short"], check["errors"], check["warnings"]) == (True, 0, 0)
    assert [one["problem"] for one in check["findings"]] == ["no label file"]
    unchecked = train(tiny("train.epochs=1", "check.before_training=false"), Recorder(tmp_path / "run"))
    assert "check" not in unchecked.recorder.manifest


def test_events_hold_what_ultralytics_logs_under_canonical_names(short: Trained, reference: Path) -> None:
    rows = results_of(reference)
    assert [event.epoch for event in short.recorder.events] == [1, 2, 3], "one each, and no duplicate at the end"
    for event, row in zip(short.recorder.events, rows, strict=True):
        assert event.epochs == 3
        expected = {
            "train/box_loss": row["train/box_loss"],
            "train/cls_loss": row["train/cls_loss"],
            "train/dfl_loss": row["train/dfl_loss"],
            "train/lr": row["lr/pg0"],
            "val/precision": row["metrics/precision(B)"],
            "val/recall": row["metrics/recall(B)"],
            "val/map50": row["metrics/mAP50(B)"],
            "val/map50_95": row["metrics/mAP50-95(B)"],
            "val/box_loss": row["val/box_loss"],
            "val/cls_loss": row["val/cls_loss"],
            "val/dfl_loss": row["val/dfl_loss"],
        }
        assert set(event.metrics) == {*expected, "train/loss", "val/f1"}
        for name, value in expected.items():
            assert event.metrics[name] == pytest.approx(float(value), rel=1e-4, abs=1e-5)
        parts = sum(event.metrics[f"train/{name}_loss"] for name in ("box", "cls", "dfl"))
        assert event.metrics["train/loss"] == pytest.approx(parts)
        assert set(event.timings) == {"time/epoch_s", "perf/images_per_s", "perf/data_wait_share"}
        assert event.timings["perf/images_per_s"] >= 48 / event.timings["time/epoch_s"]
        assert 0 < event.timings["perf/data_wait_share"] < 1


def test_same_seed_gives_the_same_metrics(short: Trained, tiny: Tiny, tmp_path: Path) -> None:
    again = train(tiny("train.epochs=3"), Recorder(tmp_path))
    assert repr(again.recorder.metrics()) == repr(short.recorder.metrics())
    assert repr(dict(again.result.metrics)) == repr(dict(short.result.metrics))


def test_it_learns(learned: Trained) -> None:
    assert learned.result.metrics["val/map50"] > 0.8
    assert learned.result.metrics["test/map50"] > 0.8
    assert learned.result.objective == learned.result.metrics["val/map50_95"]
    assert learned.result.epochs == 14


def test_best_epoch_is_that_of_the_objective(learned: Trained) -> None:
    scores = [event.metrics["val/map50_95"] for event in learned.recorder.events]
    flagged = [event.epoch for event in learned.recorder.events if event.is_best]
    assert flagged == [epoch for epoch in range(1, 15) if scores[epoch - 1] >= max(scores[:epoch])]
    assert learned.result.best_epoch == flagged[-1]
    assert learned.result.metrics["val/map50_95"] == pytest.approx(max(scores), abs=0.01)


def test_weights_are_those_of_best_and_last_epoch(learned: Trained) -> None:
    import torch

    assert set(learned.result.weights) == {"best", "last"}
    for name, path in learned.result.weights.items():
        assert path == learned.folder / "weights" / f"{name}.pt"
        content = torch.load(path, weights_only=False)
        assert content["optimizer"] is None, "stripped"
        epoch = {"best": learned.result.best_epoch, "last": 14}[name]
        assert epoch is not None
        assert content["train_metrics"]["metrics/mAP50-95(B)"] == pytest.approx(
            learned.recorder.events[epoch - 1].metrics["val/map50_95"]
        )
    assert not list(learned.folder.rglob("*.tmp"))


def test_the_backend_can_load_them(learned: Trained, drawn: Path) -> None:
    from ultralytics import YOLO

    model = YOLO(learned.result.weights["best"])
    assert model.names == {0: "person"}
    (found,) = model.predict(drawn / "images" / "val" / "001.jpg", imgsz=64, conf=0.01, device="cpu", verbose=False)
    assert set(found.boxes.cls.tolist()) == {0.0}


def test_another_objective_selects_another_epoch(tiny: Tiny, tmp_path: Path) -> None:
    """One that is better when lower, and whose best epoch here is not the last."""
    found = train(tiny("train.epochs=3", "objective=val/box_loss"), Recorder(tmp_path))
    losses = [event.metrics["val/box_loss"] for event in found.recorder.events]
    assert found.result.best_epoch == 1 + losses.index(min(losses))
    assert found.result.objective == min(losses)


def test_undefined_objective_is_no_fault(tiny: Tiny, tmp_path: Path) -> None:
    found = train(tiny("train.epochs=1", "objective=val/f1"), Recorder(tmp_path))
    assert math.isnan(found.recorder.events[0].metrics["val/f1"])
    assert found.result.weights["best"].is_file()


@pytest.mark.parametrize("kind", ["early_stop", "pruned"])
def test_a_callback_ends_training_cleanly(kind: Any, tiny: Tiny, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop=Stop("enough", kind), stop_after=2)
    found = train(tiny("train.epochs=5"), recorder)
    assert [event.epoch for event in recorder.events] == [1, 2]
    assert found.result.epochs == 2
    assert set(found.result.weights) == {"best", "last"}
    assert ("test/map50" in found.result.metrics) == (kind == "early_stop"), "a pruned run is not evaluated"


def test_interruption_leaves_the_last_whole_epoch(tiny: Tiny, tmp_path: Path) -> None:
    from watchme.engines.yolo import initial_weights as weights

    with pytest.raises(KeyboardInterrupt):
        train(tiny("train.epochs=5"), Recorder(tmp_path, break_before=3))
    assert weights.load(tmp_path / "weights" / "last.pt")[1]["epoch"] == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_save_period_keeps_every_nth_epoch(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("train.epochs=3", "train.save_period=2"), Recorder(tmp_path))
    kept = sorted(path.name for path in (tmp_path / "weights").iterdir())
    assert kept == ["best.pt", "epoch2.pt", "last.pt"]


def test_dataset_is_recorded(short: Trained) -> None:
    found = short.recorder.manifest["dataset"]
    assert found["splits"]["train"] == {"images": 48, "boxes": 36, "negatives": 12, "unlabelled": 12, "unreadable": 0}
    assert set(found["splits"]) == {"train", "val", "test"}
    assert found["names"] == ["person"]
    assert short.recorder.fallbacks == []


def test_what_was_made_up_or_left_out_is_announced(tiny: Tiny, tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 8, "val": 4, "test": 1}, yaml="")
    spoiled = root / "images" / "train" / "003.jpg"
    spoiled.write_bytes(spoiled.read_bytes()[:-100])
    recorder = Recorder(tmp_path / "run")
    found = train(tiny(f"dataset.root={root}", "train.epochs=1", "optimizer=auto", "optimizer.lr=0.01"), recorder)
    told = "\n".join(recorder.fallbacks)
    assert "no data.yaml: the standard layout with the one class person is assumed" in told
    assert f"1 unreadable image is left out: {spoiled}" in told
    assert "optimizer=auto: ultralytics chooses" in told
    assert "the test split has no boxes, so it is not evaluated" in told
    assert "test/map50" not in found.result.metrics


def test_a_split_without_boxes_cannot_be_trained_on(tiny: Tiny, two_classes: Path, tmp_path: Path) -> None:
    for label in (draw_dataset(tmp_path / "d", {"train": 4, "val": 2}) / "labels" / "train").iterdir():
        label.unlink()
    with pytest.raises(DataError, match="the train split has no boxes"):
        train(tiny(f"dataset.root={tmp_path / 'd'}"), Recorder(tmp_path / "run"))


def test_loss_that_is_not_finite_is_an_error(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lower optimizer\.lr"):
        train(tiny("train.epochs=2", "loss.box=1e38"), Recorder(tmp_path))


def test_wrong_type_of_a_free_argument_is_an_error_of_the_config(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line_width"):
        train(tiny("+model.args.line_width=wide"), Recorder(tmp_path))


def test_missing_gpu_is_an_error_of_the_config(tiny: Tiny, tmp_path: Path) -> None:
    import torch

    index = torch.cuda.device_count()
    for device in (str(index), f"[0,{index + 1}]"):
        config = tiny(f"train.device={device}", "train.batch_size=8")
        with pytest.raises(ConfigError, match=r"train\.device"):
            train(config, Recorder(tmp_path))


def test_transfer_from_a_checkpoint_with_other_classes(
    learned: Trained, two_classes: Path, tiny: Tiny, tmp_path: Path
) -> None:
    """The backbone is taken over and, frozen by count or by name, stays as it was; the head is a new one."""
    from watchme.engines.yolo import initial_weights as weights

    start = weights.load(learned.result.weights["best"])[0].state_dict()
    base = (f"dataset.root={two_classes}", f"model.weights={learned.result.weights['best']}", "train.epochs=1")
    by_count = train(tiny(*base, "train.freeze=10"), Recorder(tmp_path / "count"))
    by_name = train(tiny(*base, "train.freeze=[0,2.m]"), Recorder(tmp_path / "name"))
    counted = weights.load(by_count.result.weights["last"])[0]
    named = weights.load(by_name.result.weights["last"])[0]
    assert counted.names == {0: "car", 1: "person"}

    def unchanged(model: Any, prefix: str) -> bool:
        now = model.state_dict()
        keys = [key for key in now if key.startswith(prefix) and key.endswith(".weight")]
        assert keys
        # Checkpoints hold half precision.
        return all(bool((now[key].half() == start[key].half()).all()) for key in keys)

    assert unchanged(counted, "model.9.")
    assert not unchanged(counted, "model.10.")
    assert unchanged(named, "model.0.")
    assert unchanged(named, "model.2.m.")
    assert not unchanged(named, "model.1.")


def test_weights_of_another_architecture_are_announced(learned: Trained, tiny: Tiny, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    config = tiny(f"model.weights={learned.result.weights['best']}", "model.name=yolov8s", "train.epochs=1")
    train(config, recorder)
    assert "holds a yolo11n, which is trained instead of model.name=yolov8s" in recorder.fallbacks[0]


def test_classes_are_kept_by_name(two_classes: Path, tiny: Tiny, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    config = tiny(f"dataset.root={two_classes}", "dataset.classes=[person]", "train.epochs=1")
    found = train(config, recorder)
    assert recorder.manifest["dataset"]["names"] == ["person"]
    assert recorder.manifest["dataset"]["splits"]["train"]["boxes"] == 6
    from watchme.engines.yolo import initial_weights as weights

    assert weights.load(found.result.weights["best"])[0].names == {0: "person"}


def test_copy_of_the_dataset_is_the_users_dataset(short: Trained, drawn: Path) -> None:
    """The copy that was trained on is made of the user's files, in the user's order."""
    yaml, _ = prepare(read_layout(drawn), None)
    links = sorted((yaml.parent / "images" / "train").iterdir())
    assert [link.resolve() for link in links] == sorted((drawn / "images" / "train").iterdir())
    assert not list((drawn / "labels").glob("*.cache"))


def test_a_last_batch_of_one_at_32_px_names_our_keys(tiny: Tiny, tmp_path: Path) -> None:
    """Also, that ultralytics starts no loaders on a CPU is said, and kept for run.json."""
    recorder = Recorder(tmp_path / "run")
    with pytest.raises(TrainingError) as refused:
        train(tiny("dataset.image_size=32", "train.batch_size=47", "train.workers=2", "train.epochs=1"), recorder)
    text = str(refused.value)
    assert "the last batch of an epoch holds one image" in text
    assert "change train.batch_size=47, or set dataset.image_size=64 or more" in text
    assert not [word for word in ("imgsz", "batch=", "BatchNorm") if word in text]
    assert "train.workers=2 is 0 here: ultralytics has no loaders on cpu" in recorder.fallbacks


@pytest.mark.parametrize(("device", "count"), [("cpu", 1), ("mps", 1), ("0", 0), ("0,1", 0)])
def test_loaders_that_are_not_started_are_said(device: str, count: int, tiny: Tiny, tmp_path: Path) -> None:
    config, recorder = tiny("train.workers=2"), Recorder(tmp_path)
    announce_workers(recorder.job(config), config, device)
    assert len(recorder.fallbacks) == count
