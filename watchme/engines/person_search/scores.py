"""Metrics of person search: detection, search, and the search with one part replaced by a perfect one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from watchme.engines.person_search.config import SearchEvaluation
from watchme.engines.person_search.embed_frames import FrameFeatures
from watchme.metrics.detection import DetectionScore, Floats, in_ignored, score_detections
from watchme.metrics.person_search import (
    Decomposition,
    Overlap,
    SearchScore,
    decompose,
    mean,
    needed_iou,
    search,
    themselves,
)

_TOP = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Results of one evaluation."""

    seen: FrameFeatures  # detections and embeddings, without the detections in ignored regions
    needed: Floats  # (P,) IoU that a detection of each person must reach
    overlap: Overlap  # which detections overlap which people
    real: SearchScore  # the search over detections
    drawn: SearchScore  # the search over annotated boxes: a perfect detector
    lost: Decomposition  # what each fault costs in average precision
    found: DetectionScore  # detection metrics

    @property
    def metrics(self) -> dict[str, float]:
        """Canonical name -> value."""
        lost, found = self.lost, self.found
        return {
            "test/search_map": self.real.map,
            **{f"test/search_top{k}": self.real.top(k) for k in _TOP},
            "test/search_map_gt_boxes": self.drawn.map,
            "test/search_top1_gt_boxes": self.drawn.top(1),
            "test/search_map_oracle_embedding": mean(lost.oracle_embedding),
            "test/detection_recall": found.recall,
            "test/detection_precision": found.precision,
            "test/detection_ap50": found.ap,
            "test/lost_missed": mean(lost.missed),
            "test/lost_boxes": mean(lost.boxes),
            "test/lost_false_detections": mean(lost.false_detections),
            "test/lost_embedding": mean(lost.embedding),
        }


def measure(seen: FrameFeatures, config: SearchEvaluation) -> Outcome:
    """Compute all metrics."""
    people = seen.people
    small = seen.data.small_boxes if config.small_boxes is None else config.small_boxes
    needed = needed_iou(people.boxes, config.iou, small_boxes=small)
    # A detection in an ignored region that matches nobody is neither right nor a distractor.
    somebody = np.zeros(len(seen.detections.frames), bool)
    somebody[Overlap.of(people, seen.detections, needed).matches.entries] = True
    kept = somebody | ~in_ignored(people, seen.detections)
    seen = replace(seen, detections=seen.detections.chosen(kept), features=seen.features[kept])
    overlap = Overlap.of(people, seen.detections, needed)
    real, lost = decompose(seen.queries, people, seen.detections, seen.features, seen.drawn, overlap)
    everybody = themselves(np.ones(len(people.frames), bool))
    drawn = search(seen.queries, people, people.frames, seen.drawn, everybody)
    found = score_detections(people, seen.everything, iou=config.iou, confidence=config.confidence)
    return Outcome(seen, needed, overlap, real, drawn, lost, found)


def at_confidence(outcome: Outcome, level: float, iou: float) -> tuple[DetectionScore, SearchScore, int]:
    """Detection and search with another lowest confidence, and the size of its gallery."""
    seen = outcome.seen
    chosen = seen.detections.scores >= level
    gallery = seen.detections.chosen(chosen)
    overlap = Overlap.of(seen.people, gallery, outcome.needed)
    score = search(seen.queries, seen.people, gallery.frames, seen.features[chosen], overlap.matches)
    return score_detections(seen.people, gallery, iou=iou), score, int(chosen.sum())


def save(outcome: Outcome, path: Path) -> None:
    """Write boxes and embeddings for further analysis; `numpy.load(path)` reads them without running code.

    Frames are numbers into `frame_files`; boxes are x1, y1, x2, y2 in pixels; features are of unit length.
    """
    seen = outcome.seen
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "frame_files": np.array([str(frame.path) for frame in seen.data.frames]),
        "gallery_frames": seen.detections.frames,
        "gallery_boxes": seen.detections.boxes,
        "gallery_scores": seen.detections.scores,
        "gallery_features": seen.features,
        "people_frames": seen.people.frames,
        "people_boxes": seen.people.boxes,
        "people_pids": seen.people.pids,
        "people_features": seen.drawn,
        "query_frames": np.array([query.frame for query in seen.data.queries]),
        "query_boxes": np.array([query.box for query in seen.data.queries]),
        "query_pids": seen.queries.pids,
        "query_features": seen.queries.features,
        "query_average_precision": outcome.real.average_precision,
    }
    np.savez(path, **arrays)
