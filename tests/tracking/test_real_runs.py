"""Both engines with `tracker=all` offline, as a user runs them: the same numbers everywhere, and a short console."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracking.equal import assert_equal_everywhere
from tracking.wandb_file import WandbFile

PROJECT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.slow


def run(*arguments: str) -> str:
    """Output of the project's own train.py."""
    done = subprocess.run(
        [sys.executable, "train.py", "tracker=all", "tracker.mode=offline", *arguments],
        cwd=PROJECT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("model", "table", "chart"),
    [("yolo11n", "test/per_class", "f1"), ("osnet_x0_25", "test/per_query", "cmc")],
    ids=["yolo", "osnet"],
)
def test_numbers_are_equal_everywhere(model: str, table: str, chart: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    output = run(f"model={model}", "train.epochs=2", "tracker.every=3", f"hydra.run.dir={folder}")
    assert assert_equal_everywhere(folder) >= 2
    assert len(output.splitlines()) < 60, output
    assert "Traceback" not in output
    assert "wandb:" not in output
    saved = WandbFile(folder)
    assert saved.exit_code == 0
    assert saved.config["dataset_fingerprint"]["fingerprint"]
    assert any(table in row for row in saved.history)
    assert any(f"charts/test/{chart}_table" in row for row in saved.history)
    steps = [row["step"] for row in saved.history if "step/loss" in row]
    assert steps
    assert steps == list(range(3, steps[-1] + 1, 3))
    assert (folder / "tensorboard" / "projector_config.pbtxt").is_file() == (model != "yolo11n")
    assert "epoch   1/2" in saved.output, "train.log in the Logs tab"
    assert {"best", "last"} <= {alias for artifact in saved.artifacts for alias in artifact.aliases}
    assert len(list(folder.glob("wandb/*run-*/*.wandb"))) == 1, "one W&B run, none by ultralytics itself"
    assert (folder / "weights" / "MODEL_CARD.md").is_file()
    assert not (folder / "tracking.log").exists(), (folder / "tracking.log").read_text()
    log = (folder / "train.log").read_text().splitlines()
    assert any(" INFO " in line and "epoch" in line for line in log)
