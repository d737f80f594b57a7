"""Several devices: ultralytics' own DDP launch, with our events, weights and run folder, on two CPU processes.

What cannot be shown without two GPUs is the choice of the devices and nccl; both are ultralytics' own code.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from watchme.core.errors import TrainingError
from watchme.core.interfaces import Stop
from yolo.conftest import RECIPE, Tiny
from yolo.world import Recorder, train

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo.cpu_ddp import CpuDdp

    monkeypatch.setattr("watchme.engines.yolo.trainer.WatchmeTrainer", CpuDdp)


def test_events_weights_and_folder_are_those_of_one_device(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("the run folder's own file")
    recorder = Recorder(tmp_path, stop=Stop("enough"), stop_after=2)
    found = train(tiny("train.epochs=4"), recorder)
    assert [event.epoch for event in recorder.events] == [1, 2], "told once each, and the stop was followed"
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


def stop_rank_1(launcher: psutil.Process) -> None:
    (rank,) = (each for each in launcher.children() if each.environ().get("RANK") == "1")
    rank.suspend()


@pytest.mark.parametrize(
    ("act", "code", "status", "message"),
    [
        (lambda launcher: launcher.parent().terminate(), 130, "interrupted", "Interrupted"),
        (stop_rank_1, 1, "failed", r"rank 1 (pid"),
    ],
    ids=["SIGTERM", "SIGSTOP of a rank"],
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
