"""Scores of person search as tables, and which of the two models limits it, in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from watchme.core.interfaces import Table
from watchme.engines.person_search.config import SearchEvaluation
from watchme.engines.person_search.scores import Outcome, at_confidence

# In the order of `metrics.search.decompose`, from the last repair to the first.
_FAULTS = (
    ("missed", "people missed (detector)", "nothing was detected where the person is"),
    ("boxes", "box quality (detector)", "a box that overlaps too little to count, or whose crop embeds worse"),
    ("false_detections", "false detections (detector)", "background and doubles that are ranked above the person"),
    ("embedding", "embedding (re-ID model)", "other people who are ranked above the person"),
)
_QUERY_COLUMNS = (
    "query",
    "identity",
    "camera",
    "average_precision",
    "first_match_rank",
    "appearances",
    "detected",
    "ap_gt_boxes",
    "lost_missed",
    "lost_boxes",
    "lost_false_detections",
    "lost_embedding",
)


def decomposition(metrics: Mapping[str, float]) -> Table:
    """From a search mAP of 1 to the measured one, fault by fault."""
    level = 1.0
    rows: list[tuple[Any, ...]] = [("a perfect search", level, 0.0, "")]
    for name, step, what in _FAULTS:
        lost = metrics[f"test/lost_{name}"]
        level -= lost
        rows.append((step, level, lost, what))
    rows.append(("the real search", metrics["test/search_map"], 1 - metrics["test/search_map"], "all of it"))
    return Table("test/decomposition", ("down to", "search_map", "lost", "to what"), tuple(rows))


def by_confidence(outcome: Outcome, config: SearchEvaluation) -> Table:
    """Metrics at other thresholds of the detector's confidence."""
    above = {level for level in config.thresholds if level > config.confidence}
    rows = []
    for level in sorted({config.confidence, *above}):
        found, score, size = at_confidence(outcome, level, config.iou)
        rows.append((level, found.recall, found.precision, score.map, score.top(1), size))
    columns = ("confidence", "detection_recall", "detection_precision", "search_map", "search_top1", "gallery_boxes")
    return Table("test/by_confidence", columns, tuple(rows))


def per_query(outcome: Outcome) -> Table:
    """A row for each query, the worst first, as the report shows the beginning of a long table."""
    seen, real, lost = outcome.seen, outcome.real, outcome.lost
    rows: list[tuple[Any, ...]] = []
    order = np.argsort(np.nan_to_num(real.average_precision, nan=np.inf), kind="stable")
    for number in order.tolist():
        query = seen.data.queries[number]
        frame = seen.data.frames[query.frame]
        first = float(real.first_rank[number])
        losses = (lost.missed, lost.boxes, lost.false_detections, lost.embedding)
        rows.append(
            (
                frame.path.name,
                seen.data.name_of(query.pid),
                "" if frame.camera is None else frame.camera,
                float(real.average_precision[number]),
                first if np.isfinite(first) else float("nan"),
                int(real.wanted[number]),
                int(real.matched[number]),
                float(outcome.drawn.average_precision[number]),
                *(float(values[number]) for values in losses),
            )
        )
    return Table("test/per_query", _QUERY_COLUMNS, tuple(rows))


def verdict(metrics: Mapping[str, float]) -> tuple[str, str]:
    """The sums of the losses, and which of the two models limits the search."""
    missed, boxes, false, embedding = (metrics[f"test/lost_{name}"] for name, _, _ in _FAULTS)
    detector = missed + boxes + false
    answer = "the detector" if detector > embedding else "the re-ID model"
    if abs(detector - embedding) < 0.1 * (detector + embedding):
        answer = "both models, about equally"
    if detector + embedding < 1e-9:
        answer = "nothing"
    return (
        f"The detector loses {detector:.3f} of a search mAP of 1 (people missed {missed:.3f}, box quality {boxes:.3f}, "
        f"false detections {false:.3f}), the embedding {embedding:.3f}.",
        f"What holds the search back: {answer}.",
    )
