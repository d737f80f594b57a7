"""Several devices: ultralytics' own DDP launch, with our events, weights and run folder, on two CPU processes.

What cannot be shown without two GPUs is the choice of the devices and nccl; both are ultralytics' own code.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from watchme.core.errors import TrainingError
from watchme.core.interfaces import Stop
from yolo.conftest import RECIPE, Tiny
from yolo.world import FAULT, Recorder, train

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo.cpu_ddp import CpuDdp

    monkeypatch.setattr("watchme.engines.yolo.trainer.WatchmeTrainer", CpuDdp)


def test_events_weights_and_folder_are_those_of_one_device(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("the run folder's own file")
    recorder = Recorder(tmp_path, stop=Stop("enough"), stop_after=2)
    found = train(tiny("train.epochs=4"), recorder)
    assert [event.epoch for event in recorder.events] == [1, 2], "reported once each, and the stop was followed"
    assert set(recorder.events[0].metrics) >= {"train/loss", "train/lr", "val/map50", "val/map50_95", "val/f1"}
    assert recorder.events[0].timings["perf/images_per_s"] > 0
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {"best.pt", "last.pt"}
    assert (tmp_path / "config.yaml").read_text() == "the run folder's own file", "ultralytics deletes its folder only"
    rows = (tmp_path / "yolo" / "results.csv").read_text().splitlines()
    assert len(rows) == 3
    assert "test/map50" in found.result.metrics
    assert not [name for name in os.environ if name.startswith("WATCHME_PARENT")]


def test_error_in_a_process_is_the_error_of_the_run(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lower optimizer\.lr"):
        train(tiny("train.epochs=2", "loss.box=1e38"), Recorder(tmp_path))


FAULTS = {
    "corrupt image": r"rank 1 failed: .*broken\.jpg",
    "out of memory": r"out of memory in training with a batch of 8, 4 on each of 2 GPUs.*Lower train\.batch_size",
    "SIGKILL": r"rank 1 \(pid \d+\) was killed",
    "SIGTERM": r"rank 1 \(pid \d+\) was killed",
    "SIGSTOP": r"rank 1 \(pid \d+\) was stopped \(SIGSTOP\) for",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_process_ends_the_training_with_its_reason(
    fault: str, run_whole: Callable[..., object], drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real processes over gloo; the run folder is closed, and the way to go on is said."""
    monkeypatch.setenv(FAULT, fault)
    folder, before = tmp_path / "run", psutil.Process().children()
    with pytest.raises(TrainingError, match=f"(?s){FAULTS[fault]}.*train\\.resume={folder}"):
        run_whole(folder, *RECIPE, f"dataset.root={drawn}", "train.epochs=500")
    assert time.time() - (folder / "fault").stat().st_mtime < 30
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    left = (each for each in psutil.Process().children(recursive=True) if each not in before)
    assert [each for each in left if each.status() != psutil.STATUS_ZOMBIE] == []


def stop_for_a_while(launcher: psutil.Process) -> None:
    """Until the ranks have ended."""
    parent, ranks = launcher.parent(), launcher.children()
    parent.suspend()
    _, alive = psutil.wait_procs(ranks, timeout=30)
    parent.resume()
    assert alive == []


@pytest.mark.parametrize(
    ("act", "code", "status", "message"),
    [
        (lambda launcher: launcher.parent().terminate(), 130, "interrupted", "Interrupted"),
        (stop_for_a_while, 1, "failed", "was stopped (SIGSTOP) for 10 s"),
    ],
    ids=["SIGTERM", "SIGSTOP"],
)
def test_a_signal_ends_the_whole_run(
    act: Callable[[psutil.Process], None], code: int, status: str, message: str, drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    script = Path(__file__).with_name("train_on_two_processes.py")
    values = (*RECIPE, f"dataset.root={drawn}", "train.epochs=500", "tracker=none", f"hydra.run.dir={run}")
    process = subprocess.Popen(
        [sys.executable, str(script), *values],
        cwd=tmp_path,
        env={**os.environ, "WATCHME_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "epoch   2/500" in line:
            break
    below = psutil.Process(process.pid).children(recursive=True)
    (launcher,) = (each for each in below if "torch.distributed.run" in each.cmdline())
    act(launcher)
    rest, _ = process.communicate(timeout=60)
    output = "".join(lines) + rest
    assert process.returncode == code, output
    assert message in rest, output
    assert "train.resume=" in rest, output
    assert json.loads((run / "run.json").read_text())["status"] == status
    _, alive = psutil.wait_procs(below, timeout=5)
    assert alive == []
