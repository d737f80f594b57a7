"""Canonical metric names, and which way is better. The same names in every engine, tracker and file."""

import math
from collections.abc import Iterable

DETECTION = ("map50", "map50_95", "precision", "recall", "f1")
SEARCH = (
    "search_map",
    "search_top1",
    "search_top5",
    "search_top10",
    "search_map_gt_boxes",
    "search_top1_gt_boxes",
    "search_map_oracle_embedding",
    "detection_recall",
    "detection_precision",
    "detection_ap50",
    "lost_missed",
    "lost_boxes",
    "lost_false_detections",
    "lost_embedding",
)
SAME_CAMERA = "val_same_camera"
"""Validation of re-ID in which matches of a query's own camera count, where nobody is seen by two cameras."""
SPLITS = ("train", "val", SAME_CAMERA, "test")


def is_result(name: str) -> bool:
    """Whether a metric says how good a model is on people or images that it was not trained on."""
    return name.partition("/")[0] in SPLITS[1:]


def higher_is_better(name: str) -> bool:
    """Whether a larger value of the metric `name` is better: all but losses, times, shares of waiting and findings."""
    last = name.rsplit("/", 1)[-1]
    if last.startswith("lost_") or name.startswith("check/"):
        return False
    return last.endswith("_per_s") or not last.endswith(("loss", "_s", "_ms", "wait_share"))


def measured_objective(mode: str, objective: str, measured: Iterable[str]) -> str:
    """Name under which a run measured its objective: an evaluation of `val/map` on the test split has `test/map`.

    Args:
        mode: The run's mode; a training selects on the objective as it is configured, or, where nobody is seen by two
            cameras, on the same metric of `SAME_CAMERA`.
        objective: Canonical name from the config.
        measured: Names of the run's metrics, or of an epoch's.
    """
    names = set(measured)
    if objective in names:
        return objective
    metric = objective.rpartition("/")[2]
    if mode == "train":
        same_camera = f"{SAME_CAMERA}/{metric}"
        return same_camera if objective.startswith("val/") and same_camera in names else objective
    return next((f"{split}/{metric}" for split in reversed(SPLITS) if f"{split}/{metric}" in names), objective)


def is_better(name: str, value: float, best: float) -> bool:
    """Whether `value` beats `best`. NaN (undefined) never beats anything, and anything beats NaN."""
    if math.isnan(value):
        return False
    if math.isnan(best):
        return True
    return value > best if higher_is_better(name) else value < best
