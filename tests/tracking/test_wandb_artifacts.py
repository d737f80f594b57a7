"""Which trained weights a run uses, by the W&B runs of the folders that they lie in."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from watchme.core.interfaces import Result
from watchme.tracking.wandb_artifacts import Artifacts, weights_used


def run_folder(folder: Path, **wandb: object) -> Path:
    """A run folder with weights, tracked as `wandb` says."""
    (folder / "weights").mkdir(parents=True)
    for name in ("best", "last"):
        (folder / "weights" / f"{name}.pt").write_bytes(b"")
    (folder / "config.yaml").write_text("mode: train\n")
    (folder / "run.json").write_text(json.dumps({"wandb": wandb} if wandb else {}))
    return folder


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """A training of its own."""
    return run_folder(tmp_path / "detector", id="d1", project="people") / "weights" / "best.pt"


@pytest.fixture
def reid(tmp_path: Path) -> Path:
    """A trial of a sweep, whose weights are versions of the study's artifact."""
    artifacts = {"best": "weights-tune:trial7-best", "last": "weights-tune:trial7-last"}
    return run_folder(tmp_path / "7", id="r1", project="people", artifacts=artifacts) / "weights" / "best.pt"


def used(**config: object) -> list[str]:
    return [item["artifact"] for item in weights_used(config)]


@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_a_checkpoint_is_its_trainings_artifact(mode: str, detector: Path) -> None:
    assert used(mode=mode, checkpoint=str(detector)) == ["weights-d1:best"]
    assert used(mode=mode, checkpoint=str(detector.with_name("last.pt"))) == ["weights-d1:last"]


def test_a_search_uses_both_models(detector: Path, reid: Path) -> None:
    assert used(mode="search", detector=str(detector), reid=str(reid)) == [
        "weights-d1:best",
        "weights-tune:trial7-best",
    ]


def test_a_training_uses_what_it_is_resumed_from_or_starts_from(detector: Path, reid: Path) -> None:
    folder = str(detector.parent.parent)
    assert used(mode="train", train={"resume": folder}, model={"weights": str(reid)}) == ["weights-d1:last"]
    assert used(mode="train", train={"resume": None}, model={"weights": str(reid)}) == ["weights-tune:trial7-best"]


def test_published_weights_and_runs_that_were_not_tracked_are_no_artifacts(tmp_path: Path) -> None:
    untracked = run_folder(tmp_path / "untracked") / "weights" / "best.pt"
    assert used(mode="train", train={}, model={"weights": "yolo11n"}) == []
    assert used(mode="evaluate", checkpoint=str(untracked)) == []
    assert used(mode="evaluate", checkpoint="random") == []


def test_best_of_a_study_is_the_best_trial_that_finished(tmp_path: Path) -> None:
    """Trial 0 is pruned at 0.9, trial 1 finishes at 0.5, trial 2 at 0.4."""
    logged: dict[str, bool] = {}
    for number, status, value in ((0, "pruned", 0.9), (1, "finished", 0.5), (2, "finished", 0.4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        summary = {"status": status, "objective": "val/map", "objective_value": value}
        (folder / "summary.json").write_text(json.dumps(summary))
        setup: Any = SimpleNamespace(folder=str(folder), trial={"study": "tune", "number": number})
        artifacts = Artifacts(SimpleNamespace(id="r"), True, setup, lambda topic, text: None)
        logged[f"{number} {status}"] = artifacts.log_weights(status, Result({}, value), None, "val/map")
    assert logged == {"0 pruned": False, "1 finished": True, "2 finished": False}
