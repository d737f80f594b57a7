"""What was found, missed, and found wrongly in each image of an evaluation, and pictures of the worst images."""

import heapq
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from watchme.core.interfaces import Picture
from watchme.data.images import to_rgb
from watchme.metrics.iou import iou_matrix
from watchme.metrics.recall_groups import Frame

COUNT_COLUMNS = ("confidence", "found", "missed", "false")
# A prediction counts as right from this overlap on, as in map50.
MATCH_IOU = 0.5
# Where no confidence has any F1; ultralytics' own plots and its predict mode show boxes from here on.
_NO_BEST = 0.25
_ORIENTATION = 0x0112
Box = tuple[float, float, float, float, float, str]
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Matches:
    """The predictions of an image, matched one to one with its people.

    Predictions choose in the order of their confidence, so that those below a confidence change nothing above it: the
    matches from any confidence on are the beginning of these.
    """

    image: Path  # the dataset's file
    boxes: Array  # (n, 4) float32 predictions, in pixels, the most confident first
    scores: Array  # (n,) float32 confidences
    classes: Array  # (n,) int32
    right: Array  # (n,) whether the prediction matches a person
    people: Array  # (m, 4) float32 ground truth
    labels: Array  # (m,) int32 classes
    found_at: Array  # (m,) float32 confidence of the prediction that matches this person; NaN: none does

    def counts(self, confidence: float) -> tuple[int, int, int]:
        """How many people are found and missed, and how many predictions are false, from a confidence on."""
        shown = self.scores >= confidence
        found = int((shown & self.right).sum())
        return found, len(self.people) - found, int(shown.sum()) - found

    def lost_f1(self, confidence: float) -> float:
        """1 - F1 of this image."""
        found, missed, false = self.counts(confidence)
        return 1 - 2 * found / max(1, 2 * found + missed + false)

    def drawn(self, confidence: float, names: Any) -> tuple[Box, ...]:
        """`Picture.boxes` from a confidence on.

        Args:
            confidence: The lowest that is drawn.
            names: Class number -> name.
        """
        drawn: list[Box] = []
        for box, score, number, right in zip(self.boxes, self.scores, self.classes, self.right, strict=True):
            if score >= confidence:
                name = str(names[int(number)])
                drawn.append((*_corners(box), round(float(score), 4), name if right else f"false {name}"))
        for box, number, found_at in zip(self.people, self.labels, self.found_at, strict=True):
            if not found_at >= confidence:
                drawn.append((*_corners(box), float("nan"), f"missed {names[int(number)]}"))
        return tuple(drawn)

    def frame(self, confidence: float) -> Frame:
        """What recall by group is counted from."""
        false = (self.scores >= confidence) & ~self.right
        return Frame(self.people.astype(float), self.found_at >= confidence, self.boxes[false].astype(float))


def match(image: Path, predicted: dict[str, Any], truth: dict[str, Any]) -> Matches:
    """Match predictions with ground truth, the most confident first, one to one and within a class.

    Args:
        image: The dataset's file.
        predicted: `bboxes` (n, 4) in pixels, `conf` (n,), `cls` (n,).
        truth: `bboxes` (m, 4) in pixels, `cls` (m,).
    """
    scores = _array(predicted["conf"])
    order = np.argsort(-scores, kind="stable")
    scores, boxes = scores[order], _array(predicted["bboxes"]).reshape(-1, 4)[order]
    classes = _array(predicted["cls"]).astype(np.int32)[order]
    people, labels = _array(truth["bboxes"]).reshape(-1, 4), _array(truth["cls"]).astype(np.int32)
    overlaps = np.where(classes[:, None] == labels[None], iou_matrix(boxes, people), 0.0)
    right, found_at = np.zeros(len(boxes), bool), np.full(len(people), np.nan, np.float32)
    # Most predictions overlap nobody, even with every person still to be matched.
    for index in np.flatnonzero((overlaps >= MATCH_IOU).any(axis=1)):
        candidates = np.where(np.isnan(found_at), overlaps[index], 0.0)
        if candidates.max() >= MATCH_IOU:
            right[index] = True
            found_at[candidates.argmax()] = scores[index]
    small = np.float32
    return Matches(
        image, boxes.astype(small), scores.astype(small), classes, right, people.astype(small), labels, found_at
    )


def best_confidence(curves: Any) -> float:
    """The confidence with the best F1, at which ultralytics reports precision and recall.

    Args:
        curves: ultralytics' `Metric` of the boxes: `f1_curve` (classes, 1000) over `px` (1000,).
    """
    from ultralytics.utils.metrics import smooth

    if not len(curves.f1_curve) or not curves.f1_curve.max() > 0:
        return _NO_BEST
    return round(float(curves.px[smooth(curves.f1_curve.mean(0), 0.1).argmax()]), 3)


def totals(matched: Iterable[Matches], confidence: float) -> tuple[int, int, int]:
    """Found, missed and false in all images, from a confidence on."""
    counts = np.array([one.counts(confidence) for one in matched], int).reshape(-1, 3)
    found, missed, false = counts.sum(axis=0).tolist()
    return found, missed, false


def worst_first(matched: Sequence[Matches], confidence: float, wanted: int) -> list[Matches]:
    """The images with the greatest loss of F1, then the most mistakes; of equals, those that come first.

    Those without people or predictions show nothing, and are left out.
    """
    shown = [one for one in matched if sum(one.counts(confidence))]
    return heapq.nsmallest(wanted, shown, key=lambda one: (-one.lost_f1(confidence), -sum(one.counts(confidence)[1:])))


def picture(example: Matches, confidence: float, names: Any, number: int, folder: Path, split: str) -> Picture:
    """An example as a picture: a copy of its image, so that the run folder needs no dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:02d}-{example.image.name}"
    with Image.open(example.image) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        if upright and image.format in ("JPEG", "PNG"):
            shutil.copyfile(example.image, path)
        else:  # upright, as the network sees it, in a format that browsers show
            path = path.with_suffix(".jpg")
            to_rgb(image).save(path, quality=92)
    found, missed, false = example.counts(confidence)
    lost = f"F1 {1 - example.lost_f1(confidence):.2f}"
    caption = (
        f"{example.image.name}: {lost}, {found} found, {missed} missed, {false} false at confidence >= {confidence}"
    )
    return Picture(f"{split}/detections", path, caption, example.drawn(confidence, names))


def _corners(box: Any) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(value), 1) for value in box)
    return x1, y1, x2, y2


def _array(values: Any) -> Array:
    """A tensor as float64, which is what overlaps are computed in."""
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values, np.float64)
