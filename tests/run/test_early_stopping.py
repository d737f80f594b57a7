"""Early stopping, and the directions of metrics, against what they are defined to be."""

import math

import pytest

from watchme.core.interfaces import EpochEvent
from watchme.core.metric_names import higher_is_better, is_better
from watchme.run.early_stopping import EarlyStopping


def stopped_at(values: list[float], patience: int, objective: str = "val/map") -> int | None:
    """The epoch (from 1) after which a run with these values is told to stop."""
    stopping = EarlyStopping(objective, patience)
    for epoch, value in enumerate(values, 1):
        if stopping.on_epoch(EpochEvent(epoch, len(values), {objective: value})):
            return epoch
    return None


@pytest.mark.parametrize(
    ("values", "patience", "epoch"),
    [
        ([0.1, 0.5, 0.4, 0.4, 0.4], 2, 4),
        ([0.1, 0.5, 0.4, 0.6, 0.4], 2, None),
        ([0.5, 0.5, 0.5], 2, 3),  # an equal value is not better
        ([math.nan, math.nan, 0.1], 3, None),
        ([0.5, math.nan, math.nan], 2, 3),
        ([0.5, 0.4, 0.3, 0.2], 0, None),
    ],
)
def test_stops_after_patience_epochs_without_a_better_value(
    values: list[float], patience: int, epoch: int | None
) -> None:
    assert stopped_at(values, patience) == epoch


def test_epochs_without_a_validation_do_not_count() -> None:
    """`eval_every=5 patience=3` once ended at epoch 3, unvalidated."""
    stopping = EarlyStopping("val/map", 2)
    values = {5: 0.5, 10: 0.4, 15: 0.3}
    for epoch in range(1, 16):
        metrics = {"val/map": values[epoch]} if epoch in values else {"train/loss": 1.0}
        stop = stopping.on_epoch(EpochEvent(epoch, 20, metrics))
        assert (stop is not None) == (epoch == 15)
    assert stop is not None
    assert stop.reason == "val/map has not improved in 2 validations, since epoch 5 (train.patience=2)"


def test_the_evaluation_before_training_does_not_count() -> None:
    stopping = EarlyStopping("val/map", 2)
    found = [stopping.on_epoch(EpochEvent(epoch, 9, {"val/map": value})) for epoch, value in enumerate([0.9, 0.1, 0.2])]
    assert found == [None, None, None]


def test_smaller_is_better_for_losses() -> None:
    assert stopped_at([1.0, 0.5, 0.7, 0.8], 2, "val/box_loss") == 4
    assert stopped_at([1.0, 0.9, 0.8, 0.7], 2, "val/box_loss") is None


def test_resuming_forgets_epochs_that_are_done_again() -> None:
    stopping = EarlyStopping("val/map", 2)
    for epoch, value in enumerate([0.1, 0.9, 0.2], 1):
        stopping.add(epoch, value)
    stopping.on_resume(1)
    assert stopping.best == 0.1
    assert stopping.on_epoch(EpochEvent(2, 9, {"val/map": 0.2})) is None
    assert stopping.best == 0.2


@pytest.mark.parametrize("name", ["val/map", "val/map50", "val/rank1", "val/precision", "perf/images_per_s"])
def test_metrics_are_better_when_higher(name: str) -> None:
    assert higher_is_better(name)
    assert is_better(name, 0.2, 0.1)
    assert is_better(name, 0.2, math.nan)
    assert not is_better(name, math.nan, math.nan)


@pytest.mark.parametrize(
    "name", ["val/box_loss", "time/epoch_s", "perf/latency_ms", "perf/data_wait_share", "check/errors"]
)
def test_losses_times_and_findings_are_better_when_lower(name: str) -> None:
    assert not higher_is_better(name)
    assert is_better(name, 0.1, 0.2)
