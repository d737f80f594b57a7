"""Detection metrics over all frames: recall, precision and average precision of a person detector."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from watchme.metrics.iou import Floats, box_areas, intersection_matrix, iou_matrix

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class People:
    """Ground truth over all frames, in order of the frames."""

    frames: Ints  # (P,) int64 number of the frame of each person
    boxes: Floats  # (P, 4) float64: x1, y1, x2, y2, pixels
    pids: Ints  # (P,) int64 identities; 0 is unknown
    ignored_frames: Ints  # (I,) frames of the regions in which a detection is neither right nor wrong
    ignored_boxes: Floats  # (I, 4)


@dataclass(frozen=True, eq=False)
class Detections:
    """Output of a detector over all frames, in order of the frames."""

    frames: Ints  # (N,) int64 number of the frame of each detection
    boxes: Floats  # (N, 4) float64: x1, y1, x2, y2, pixels
    scores: Floats  # (N,) float64 confidences

    def chosen(self, chosen: Bools) -> "Detections":
        """Those that a mask (N,) chooses."""
        return Detections(self.frames[chosen], self.boxes[chosen], self.scores[chosen])


@dataclass(frozen=True)
class DetectionScore:
    """How well a detector finds people. What is undefined is NaN."""

    recall: float  # share of the people that are found
    precision: float  # share of the detections that are people
    ap: float  # area under precision over recall, all confidences
    people: int  # how many there are
    detections: int  # how many count
    right: int  # how many of them are people


def frame_ranges(frames: Ints, total: int) -> tuple[Ints, Ints]:
    """Where the entries of each of `total` frames begin and end, for entries in order of the frames.

    Raises:
        ValueError: If they are in another order, or of frames that there are not.
    """
    if len(frames) and ((np.diff(frames) < 0).any() or frames[0] < 0 or frames[-1] >= total):
        raise ValueError(f"entries must be in order of their frames, which are 0 to {total - 1}")
    numbers = np.arange(total)
    return np.searchsorted(frames, numbers), np.searchsorted(frames, numbers, side="right")


def side_by_side(people: People, detections: Detections) -> Iterator[tuple[slice, slice, Floats]]:
    """For each frame with a detection: the slices of its people and of its detections, and their (p, d) IoU."""
    total = 1 + max(people.frames.max(initial=-1), detections.frames.max(initial=-1))
    bounds = (*frame_ranges(people.frames, total), *frame_ranges(detections.frames, total))
    for first, last, start, stop in zip(*bounds, strict=True):
        if start < stop:
            here, there = slice(first, last), slice(start, stop)
            yield here, there, iou_matrix(people.boxes[here], detections.boxes[there])


def in_ignored(people: People, detections: Detections) -> Bools:
    """(N,) which detections have at least half of their area in an ignored region, as COCO does for crowds."""
    found = np.zeros(len(detections.frames), bool)
    for frame in np.unique(people.ignored_frames):
        regions = people.ignored_boxes[people.ignored_frames == frame]
        own = np.flatnonzero(detections.frames == frame)
        boxes = detections.boxes[own]
        inside = intersection_matrix(boxes, regions).max(axis=1, initial=0)
        found[own] = inside >= 0.5 * np.maximum(box_areas(boxes), 1e-9)
    return found


def score_detections(
    people: People, detections: Detections, *, iou: float = 0.5, confidence: float = 0.0
) -> DetectionScore:
    """Recall and precision from a confidence on, and average precision over all.

    In each frame the most confident detection chooses first: it is right if a person whom no other has taken overlaps
    it by at least `iou`, and takes the one that overlaps most, as COCO's evaluation does. A detection in an ignored
    region that is not right does not count.

    Args:
        people: Who is there.
        detections: All that the detector found, of the lowest confidences too, for the average precision.
        iou: Overlap that makes a detection right.
        confidence: Recall and precision are those of the detections with at least this confidence.

    Returns:
        `ap` is the area under the curve of precision (made monotonous) over recall, not sampled at points.
    """
    right = np.zeros(len(detections.frames), bool)
    for _, there, overlaps in side_by_side(people, detections):
        free = np.ones(len(overlaps), bool)
        for place in np.argsort(-detections.scores[there], kind="stable"):
            column = np.where(free, overlaps[:, place], -1.0)
            if len(column) and column.max() >= iou:
                free[column.argmax()] = False
                right[there.start + place] = True
    counts = right | ~in_ignored(people, detections)
    total = len(people.frames)
    order = np.argsort(-detections.scores[counts], kind="stable")
    hits = right[counts][order]
    shown = counts & (detections.scores >= confidence)
    found, given = int(right[shown].sum()), int(shown.sum())
    return DetectionScore(
        recall=found / total if total else float("nan"),
        precision=found / given if given else float("nan"),
        ap=_average_precision(hits, total),
        people=total,
        detections=given,
        right=found,
    )


def _average_precision(hits: Bools, total: int) -> float:
    if not total:
        return float("nan")
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / total)
