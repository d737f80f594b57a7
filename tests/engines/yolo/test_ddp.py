"""Several devices: ultralytics' own DDP launch, with our events, weights and run folder, on two CPU processes.

What cannot be shown without two GPUs is the choice of the devices and nccl; both are ultralytics' own code.
"""

import os
from pathlib import Path

import pytest

from watchme.core.errors import TrainingError
from watchme.core.interfaces import Stop
from yolo.conftest import Tiny
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
    assert not [name for name in os.environ if name.startswith("WATCHME_EVENTS")]


def test_error_in_a_process_is_the_error_of_the_run(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lower optimizer\.lr"):
        train(tiny("train.epochs=2", "loss.box=1e38"), Recorder(tmp_path))
