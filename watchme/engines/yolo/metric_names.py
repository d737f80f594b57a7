"""ultralytics' metrics under canonical names."""

import math
from collections.abc import Mapping
from typing import Any

_NAMES = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95",
}


def canonical_metrics(metrics: Mapping[str, Any], split: str) -> dict[str, float]:
    """ultralytics' metrics under canonical names, with F1 = 2PR / (P + R), NaN where both are 0."""
    named = {f"{split}/{name}": float(metrics[theirs]) for theirs, name in _NAMES.items() if theirs in metrics}
    if f"{split}/precision" in named and f"{split}/recall" in named:
        named[f"{split}/f1"] = f1(named[f"{split}/precision"], named[f"{split}/recall"])
    named |= {key: float(value) for key, value in metrics.items() if key.startswith("val/") and key.endswith("_loss")}
    return named


def f1(precision: float, recall: float) -> float:
    """Harmonic mean of precision and recall; NaN where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else math.nan
