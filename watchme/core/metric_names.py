"""Canonical metric names, and which way is better. The same names in every engine, tracker and file."""

import math

DETECTION = ("map50", "map50_95", "precision", "recall", "f1")
RETRIEVAL = ("map", "minp", "rank1", "rank5", "rank10", "rank20")
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
SPLITS = ("train", "val", "test")


def higher_is_better(name: str) -> bool:
    """Whether a larger value of the metric `name` is better: all but losses, times and shares of waiting."""
    last = name.rsplit("/", 1)[-1]
    if last.startswith("lost_"):
        return False
    return last.endswith("_per_s") or not last.endswith(("loss", "_s", "_ms", "wait_share"))


def is_better(name: str, value: float, best: float) -> bool:
    """Whether `value` beats `best`. NaN (undefined) never beats anything, and anything beats NaN."""
    if math.isnan(value):
        return False
    if math.isnan(best):
        return True
    return value > best if higher_is_better(name) else value < best
