"""ultralytics' metrics under canonical names."""

import math

import pytest

from watchme.engines.yolo.metric_names import canonical_metrics


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
