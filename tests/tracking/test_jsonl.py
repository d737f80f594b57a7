"""metrics.jsonl: what a killed and resumed run leaves in it."""

import json
import math
from pathlib import Path

import pytest

from watchme.core.interfaces import EpochEvent
from watchme.tracking.jsonl import JsonlTracker, read_metrics


def write(tracker: JsonlTracker, *epochs: int) -> None:
    for epoch in epochs:
        tracker.on_epoch(EpochEvent(epoch, 9, {"val/map": epoch / 10}, {"time/epoch_s": 1.0}))


def no_json(name: str) -> None:
    pytest.fail(f"{name} is no JSON")


def test_undefined_is_null_in_the_file_and_nan_when_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonlTracker(path).on_epoch(EpochEvent(1, 9, {"val/map": math.nan, "train/loss": math.inf}))
    JsonlTracker(path).on_resume(1)
    assert json.loads(path.read_text(), parse_constant=no_json)["val/map"] is None
    assert math.isnan(read_metrics(path)[0]["val/map"])


def test_resuming_drops_later_epochs_and_a_line_cut_off_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(JsonlTracker(path), 0, 1, 2, 3)
    with path.open("a") as file:
        file.write('{"epoch": 4, "val/m')
    resumed = JsonlTracker(path)
    resumed.on_resume(2)
    write(resumed, 3, 4)
    assert [line["epoch"] for line in read_metrics(path)] == [0, 1, 2, 3, 4]
    assert [line["val/map"] for line in read_metrics(path)] == [0.0, 0.1, 0.2, 0.3, 0.4]
