"""Which alerts are due, by hand-made courses of a training."""

import math

import pytest

from watchme.core.interfaces import Result
from watchme.tracking.wandb_alerts import Alerts

ALL = ("failed", "finished", "worse", "undefined")
OBJECTIVE = "val/map"


def alerts(*wanted: str) -> tuple[Alerts, list[tuple[str, str, str]]]:
    sent: list[tuple[str, str, str]] = []
    return Alerts(wanted, OBJECTIVE, "night", lambda title, text, level: sent.append((title, text, level))), sent


def test_a_run_that_ends_worse_than_it_began_says_both_values() -> None:
    watched, sent = alerts(*ALL)
    watched.epoch(0, {OBJECTIVE: 0.5})
    watched.epoch(1, {OBJECTIVE: 0.3, "train/loss": 1.0})
    watched.end("finished", Result({}, 0.3, best_epoch=1, epochs=1), "")
    assert [(title, level) for title, _, level in sent] == [
        ("night is worse than before training", "WARN"),
        ("night finished", "INFO"),
    ]
    assert sent[0][1] == "val/map 0.3000, was 0.5000"


@pytest.mark.parametrize(("start", "best"), [(0.5, 0.6), (0.5, 0.5), (math.nan, 0.1)])
def test_a_run_that_ends_no_worse_or_had_no_start_is_not_worse(start: float, best: float) -> None:
    watched, sent = alerts("worse")
    watched.epoch(0, {OBJECTIVE: start})
    watched.end("finished", Result({}, best), "")
    assert not sent


def test_an_undefined_value_is_told_once() -> None:
    watched, sent = alerts("undefined")
    watched.step(50, math.nan)
    watched.epoch(1, {OBJECTIVE: math.nan, "train/loss": math.nan})
    watched.epoch(2, {OBJECTIVE: math.nan})
    assert [text for _, text, _ in sent] == ["At step 50"]


@pytest.mark.parametrize("error", ["TrainingError: the loss is nan; lower optimizer.lr", "the loss is NaN again"])
def test_a_failure_by_a_loss_that_is_not_finite_is_one_alert(error: str) -> None:
    watched, sent = alerts("failed", "undefined")
    watched.end("failed", None, error)
    assert sent == [("night: the loss is not finite", error, "ERROR")]
    watched, sent = alerts("failed")
    watched.end("failed", None, error)
    assert sent == [("night failed", error, "ERROR")]


def test_what_is_not_wanted_is_not_sent() -> None:
    watched, sent = alerts()
    watched.epoch(0, {OBJECTIVE: 0.5})
    watched.step(1, math.inf)
    watched.end("finished", Result({}, 0.1), "")
    watched.end("failed", None, "broken")
    assert not sent
