"""Going on with a run: no epoch missing or twice, nothing silently ignored."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from watchme.core.errors import CheckpointError, ConfigError
from watchme.engines.yolo import initial_weights as weights
from watchme.tracking.jsonl import JsonlTracker
from yolo.conftest import RECIPE, Tiny
from yolo.world import Recorder, Trained, train

EPOCHS = "train.epochs=4"
PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def interrupted(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """A run of four epochs that was broken off while the third was reported; every epoch is kept."""
    recorder = Recorder(tmp_path_factory.mktemp("interrupted") / "run", break_before=3)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(EPOCHS, "train.save_period=1"), recorder)
    return recorder


@pytest.fixture
def broken(interrupted: Recorder, tmp_path: Path) -> Path:
    """A copy of that run's folder."""
    return shutil.copytree(interrupted.folder, tmp_path / "run")


def resume(tiny: Tiny, folder: Path, *overrides: str, checkpoint: str = "") -> Trained:
    return train(tiny(EPOCHS, f"train.resume={folder / checkpoint}", *overrides), Recorder(folder))


def log(folder: Path, recorder: Recorder) -> None:
    """Write metrics.jsonl, as a whole run does."""
    tracker = JsonlTracker(folder / "metrics.jsonl")
    for event in recorder.events:
        tracker.on_epoch(event)


def test_goes_on_after_the_last_whole_epoch(broken: Path, tiny: Tiny, interrupted: Recorder) -> None:
    found = resume(tiny, broken)
    assert found.recorder.resumed == [2]
    assert [event.epoch for event in found.recorder.events] == [3, 4]
    assert found.result.epochs == 4
    # The schedule goes on where it was.
    rates = [event.metrics["train/lr"] for event in (*interrupted.events, *found.recorder.events)]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert len(set(rates)) == 4
    assert found.result.best_epoch is not None
    assert weights.load(found.result.weights["last"])[1]["train_metrics"]
    rows = (broken / "yolo" / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4"]


def test_best_epoch_before_the_break_is_not_forgotten(broken: Path, tiny: Tiny, interrupted: Recorder) -> None:
    """As if epoch 1 had been best by far: what comes after must not take its place."""
    import torch

    first = torch.load(broken / "weights" / "epoch1.pt", weights_only=False)
    first["train_metrics"] |= {"metrics/mAP50-95(B)": 0.9, "fitness": 0.9}
    torch.save(first, broken / "weights" / "best.pt")
    log(broken, interrupted)
    found = resume(tiny, broken)
    assert found.result.best_epoch == 1
    # What the epoch measured, its losses included, as in a run without a break.
    assert found.result.metrics.items() >= interrupted.events[0].metrics.items()
    assert not any(event.is_best for event in found.recorder.events)
    kept = weights.load(broken / "weights" / "best.pt")[0].state_dict()
    assert all(bool((kept[key] == value).all()) for key, value in first["ema"].float().state_dict().items())


def test_an_earlier_checkpoint_gives_up_what_came_after(broken: Path, tiny: Tiny) -> None:
    """Also its best.pt, which is of an epoch that is trained again."""
    assert weights.load(broken / "weights" / "best.pt")[1]["epoch"] == 1
    found = resume(tiny, broken, "objective=val/map50_95", checkpoint="weights/epoch1.pt")
    assert found.recorder.resumed == [1]
    assert [event.epoch for event in found.recorder.events] == [2, 3, 4]
    rows = (broken / "yolo" / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.epochs=9", "train.epochs"),
        ("optimizer.lr=0.5", "optimizer.lr"),
        ("optimizer=sgd", "optimizer.name"),
        ("scheduler=cosine", "scheduler.name"),
        ("augmentation.mosaic=0.5", "augmentation.mosaic"),
        ("loss.box=1", "loss.box"),
        ("train.seed=3", "train.seed"),
        ("evaluation.iou=0.5", "evaluation.iou"),
        ("dataset.single_class=true", "dataset.single_class"),
        ("objective=val/map50", "objective"),
        ("model=yolov8n", "model.name"),
        ("+model.args.cls_remap=false", "model.args.cls_remap"),
    ],
)
def test_changes_that_would_be_ignored_are_refused(override: str, key: str, broken: Path, tiny: Tiny) -> None:
    with pytest.raises(ConfigError) as caught:
        resume(tiny, broken, override)
    assert key in {problem.key for problem in caught.value.problems}
    assert "a resumed run keeps its" in str(caught.value)


def test_another_dataset_is_refused(broken: Path, tiny: Tiny, two_classes: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.classes"):
        resume(tiny, broken, f"dataset.root={two_classes}")


def test_what_ultralytics_lets_change_may_change(broken: Path, tiny: Tiny) -> None:
    found = resume(tiny, broken, "train.batch_size=16", "dataset.image_size=96", "train.freeze=2", "train.patience=7")
    assert [event.epoch for event in found.recorder.events] == [3, 4]


def test_a_finished_run_is_not_trained_longer(short: Trained, tiny: Tiny) -> None:
    with pytest.raises(CheckpointError, match="has finished, and ultralytics drops"):
        train(tiny("train.epochs=5", f"train.resume={short.folder}"), Recorder(short.folder))


def test_a_run_killed_before_its_evaluation_is_evaluated(short: Trained, tiny: Tiny, tmp_path: Path) -> None:
    """Its checkpoints are stripped of their optimizer by then."""
    folder = shutil.copytree(short.folder, tmp_path / "stripped")
    log(folder, short.recorder)
    found = train(tiny("train.epochs=3", f"train.resume={folder}"), Recorder(folder))
    assert found.recorder.events == []
    assert found.recorder.resumed == [3]
    assert repr(found.result.metrics) == repr(short.result.metrics)
    assert (found.result.epochs, found.result.best_epoch) == (3, short.result.best_epoch)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optimizer.lr=0.5", "optimizer.lr"),
        ("dataset.image_size=96", "dataset.image_size"),
        ("train.epochs=5", "train.epochs"),
        ("objective=val/map50", "objective"),
    ],
)
def test_a_trained_run_keeps_what_it_was_trained_with(
    override: str, key: str, short: Trained, tiny: Tiny, tmp_path: Path
) -> None:
    """Else its config would name a learning rate, or a size of images, that no epoch had."""
    folder = shutil.copytree(short.folder, tmp_path / "stripped")
    log(folder, short.recorder)
    with pytest.raises(ConfigError, match=re.escape(key)):
        train(tiny("train.epochs=3", f"train.resume={folder}", override), Recorder(folder))


def test_a_trained_run_that_lost_its_best_weights(short: Trained, tiny: Tiny, tmp_path: Path) -> None:
    """Of the last epoch they are made of last.pt; of another one nothing is changed."""
    folder = shutil.copytree(short.folder, tmp_path / "stripped")
    (folder / "weights" / "best.pt").unlink()
    for best in (1, 3):
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        log(folder, short.recorder)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        text = "".join(json.dumps({**line, "is_best": line["epoch"] == best}) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
        resumed = tiny("train.epochs=3", f"train.resume={folder}")
        if best == 1:
            with pytest.raises(CheckpointError, match=r"best.pt is lost, and last.pt is of epoch 3 .* best one was 1:"):
                train(resumed, Recorder(folder))
            assert not (folder / "weights" / "best.pt").exists()
        else:
            found = train(resumed, Recorder(folder))
            assert (found.result.best_epoch, found.result.weights["best"].is_file()) == (3, True)


def test_a_run_killed_after_its_last_epoch_is_evaluated(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("watchme.engines.yolo.trainer.strip_checkpoints", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("train.epochs=1"), Recorder(folder))
    assert weights.load(folder / "weights" / "last.pt")[1]["optimizer"] is not None
    found = train(tiny("train.epochs=1", f"train.resume={folder}"), Recorder(folder))
    assert found.recorder.events == []
    assert found.result.metrics["test/map50"] >= 0
    assert weights.load(folder / "weights" / "last.pt")[1]["optimizer"] is None


def interrupt(folder: Path) -> None:
    raise KeyboardInterrupt


def test_damaged_checkpoint_is_an_error(broken: Path, tiny: Tiny) -> None:
    last = broken / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        resume(tiny, broken)


@pytest.mark.slow
def test_killed_run_is_resumed_by_the_command_line(drawn: Path, tmp_path: Path) -> None:
    """`kill -9` in the middle, then `train.py train.resume=<run>`: each epoch stands once in metrics.jsonl."""
    run, epochs = tmp_path / "run", 6
    environment = {**os.environ, "WATCHME_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "train.py"]
    start = [*command, *RECIPE, f"dataset.root={drawn}", f"train.epochs={epochs}", f"hydra.run.dir={run}"]
    process = subprocess.Popen(
        start, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(epochs_of(run)) < 3:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = epochs_of(run)
    assert 3 <= len(before) < epochs
    resumed = subprocess.run(
        [*command, f"train.resume={run}"], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=180
    )
    assert resumed.returncode == 0, resumed.stderr
    assert epochs_of(run) == list(range(1, epochs + 1))
    assert json.loads((run / "summary.json").read_text())["epochs"] == epochs
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def epochs_of(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line)["epoch"] for line in lines if line.endswith("\n")]
