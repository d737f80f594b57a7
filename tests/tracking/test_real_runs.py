"""Both engines with `tracker=all` offline, as a user runs them: the same numbers everywhere, and a short console."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tracking.equal import assert_equal_everywhere
from tracking.wandb_file import WandbFile

PROJECT = Path(__file__).resolve().parent.parent.parent
# A loaded machine makes a run slow, not idle, and changes little of the processor time that it needs.
_IDLE_S, _PROCESSOR_S = 300.0, 1800.0
pytestmark = pytest.mark.slow


def run(output: Path, *arguments: str) -> str:
    """Output of the project's own train.py, which is ended where it hangs or does not come to an end."""
    command = [sys.executable, "train.py", "tracker=all", "tracker.mode=offline", *arguments]
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=file, stderr=subprocess.STDOUT)
    used, since = 0.0, time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(0.5)
            if (now := _processor_s(process.pid)) > used:
                used, since = now, time.monotonic()
            assert used < _PROCESSOR_S, f"no end after {used:.0f} s of processor time: {output.read_text()}"
            assert time.monotonic() - since < _IDLE_S, f"idle for {_IDLE_S:.0f} s: {output.read_text()}"
    finally:
        process.kill()
        process.wait()
    text = output.read_text()
    assert process.returncode == 0, text
    return text


def _processor_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def finished(folder: Path) -> WandbFile:
    """W&B's file, once the tracking process has ended it, which on a loaded machine outlives the training."""
    deadline = time.monotonic() + _IDLE_S
    while (found := WandbFile(folder)).exit_code is None:
        assert time.monotonic() < deadline, "W&B's run has no end"
        time.sleep(0.5)
    return found


@pytest.mark.parametrize(
    ("model", "table", "chart"),
    [("yolo11n", "test/per_class", "f1"), ("osnet_x0_25", "test/per_query", "cmc")],
    ids=["yolo", "osnet"],
)
def test_numbers_are_equal_everywhere(model: str, table: str, chart: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    output = run(tmp_path / "output", f"model={model}", "train.epochs=2", "tracker.every=3", f"hydra.run.dir={folder}")
    assert assert_equal_everywhere(folder) >= 2
    assert len(output.splitlines()) < 60, output
    assert "Traceback" not in output
    assert "wandb:" not in output
    saved = finished(folder)
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
    errors = folder / "tracking.log"
    assert not errors.exists() or not errors.read_text()
    log = (folder / "train.log").read_text().splitlines()
    assert any(" INFO " in line and "epoch" in line for line in log)
