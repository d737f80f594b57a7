"""Canonical names, and the line from a multi-GPU run's process to the callbacks."""

import math
import subprocess
import sys

import pytest

from watchme.core.errors import TrainingError
from watchme.core.interfaces import EpochEvent, Stop
from watchme.engines.yolo.events import canonical_metrics, connect_to_parent, serve

CHILD = """
from watchme.core.interfaces import EpochEvent
from watchme.engines.yolo.events import connect_to_parent
line = connect_to_parent()
answers = [line(EpochEvent(epoch, 3, {"train/loss": 1.0 / epoch})) for epoch in (1, 2)]
assert answers[0] is None and answers[1].reason == "enough", answers
"""
FAILING = """
from watchme.engines.yolo.events import connect_to_parent
from watchme.core.errors import TrainingError
connect_to_parent().fail(TrainingError("the loss is nan after epoch 1"))
raise SystemExit(1)
"""


def test_names() -> None:
    theirs = {
        "metrics/precision(B)": 0.5,
        "metrics/recall(B)": 0.25,
        "metrics/mAP50(B)": 0.4,
        "metrics/mAP50-95(B)": 0.2,
        "val/box_loss": 1.5,
        "fitness": 0.2,
    }
    assert canonical_metrics(theirs, "val") == {
        "val/precision": 0.5,
        "val/recall": 0.25,
        "val/map50": 0.4,
        "val/map50_95": 0.2,
        "val/f1": pytest.approx(2 * 0.5 * 0.25 / 0.75),
        "val/box_loss": 1.5,
    }


def test_f1_is_undefined_without_a_hit() -> None:
    assert math.isnan(canonical_metrics({"metrics/precision(B)": 0.0, "metrics/recall(B)": 0.0}, "val")["val/f1"])


def test_events_and_answers_travel_between_processes() -> None:
    seen: list[EpochEvent] = []

    def emit(event: EpochEvent) -> Stop | None:
        seen.append(event)
        return Stop("enough") if event.epoch == 2 else None

    with serve(emit):
        subprocess.run([sys.executable, "-c", CHILD], check=True)
    assert [event.metrics["train/loss"] for event in seen] == [1.0, 0.5]
    assert connect_to_parent() is None, "the address is gone with the block"


def test_error_of_the_process_is_raised_instead_of_its_exit_status() -> None:
    with pytest.raises(TrainingError, match="loss is nan after epoch 1"), serve(lambda event: None):
        subprocess.run([sys.executable, "-c", FAILING], check=True)


def test_error_of_a_callback_is_raised() -> None:
    def emit(event: EpochEvent) -> Stop | None:
        raise TrainingError("disk full")

    with pytest.raises(TrainingError, match="disk full"), serve(emit):
        subprocess.run([sys.executable, "-c", CHILD], check=True, stderr=subprocess.DEVNULL)


def test_a_process_that_never_calls_does_not_hang() -> None:
    with pytest.raises(subprocess.CalledProcessError), serve(lambda event: None):
        subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)
