"""Example images of an evaluation: those with the lowest F1, with what was found, missed, and found wrongly."""

import heapq
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from watchme.core.interfaces import Picture
from watchme.data.images import to_rgb
from watchme.metrics.iou import iou_matrix

# Boxes below this confidence are not drawn, as in ultralytics' own plots and its predict mode.
SHOWN_FROM = 0.25
COUNT_COLUMNS = ("confidence", "found", "missed", "false")
# A prediction counts as right from this overlap on, as in map50.
_MATCH_IOU = 0.5
_ORIENTATION = 0x0112
Box = tuple[float, float, float, float, float, str]


@dataclass(frozen=True)
class Example:
    """An image with its predictions and what they missed."""

    image: Path  # the dataset's file
    boxes: tuple[Box, ...]  # as `Picture.boxes`
    counts: tuple[int, int, int]  # how many people were found, missed, and found wrongly

    @property
    def lost_f1(self) -> float:
        """1 - F1 of this image."""
        found, missed, false = self.counts
        return 1 - 2 * found / max(1, 2 * found + missed + false)

    @property
    def badness(self) -> tuple[float, int]:
        """Sort key: the loss of F1, then the number of mistakes."""
        return self.lost_f1, self.counts[1] + self.counts[2]


class WorstExamples:
    """Keeps the images with the greatest loss of F1, and counts over all images.

    Args:
        wanted: How many to keep.

    Attributes:
        totals: How many people were found, missed, and found wrongly, in all images.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.totals: tuple[int, ...] = (0, 0, 0)
        self._heap: list[tuple[tuple[float, int], int, Example]] = []

    def add(self, example: Example, order: int) -> None:
        """Count an image, and keep it if it is among the worst; of equals those with the lowest number `order`."""
        self.totals = tuple(np.add(self.totals, example.counts).tolist())
        if example.counts == (0, 0, 0) or not self.wanted:
            return
        entry = (example.badness, -order, example)
        if len(self._heap) < self.wanted:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def worst_first(self) -> list[Example]:
        """The kept images."""
        return [example for *_, example in sorted(self._heap, reverse=True)]


def compare(image: Path, predicted: dict[str, Any], truth: dict[str, Any], names: Any) -> Example:
    """Match predictions with ground truth, the most confident first, one to one and within a class.

    Args:
        image: The dataset's file.
        predicted: `bboxes` (n, 4) in pixels, `conf` (n,), `cls` (n,), the most confident first.
        truth: `bboxes` (m, 4) in pixels, `cls` (m,).
        names: Class number -> name.
    """
    boxes, classes = _array(predicted["bboxes"]).reshape(-1, 4), _array(predicted["cls"]).astype(int)
    people, labels = _array(truth["bboxes"]).reshape(-1, 4), _array(truth["cls"]).astype(int)
    overlaps = np.where(classes[:, None] == labels[None], iou_matrix(boxes, people), 0.0)
    open_ = np.ones(len(people), bool)
    drawn: list[Box] = []
    false = 0
    for index, (box, score) in enumerate(zip(boxes, _array(predicted["conf"]), strict=True)):
        candidates = np.where(open_, overlaps[index], 0.0)
        right = bool(len(people)) and candidates.max() >= _MATCH_IOU
        if right:
            open_[candidates.argmax()] = False
        false += not right
        name = str(names[int(classes[index])])
        drawn.append((*_corners(box), round(float(score), 4), name if right else f"false {name}"))
    left = np.flatnonzero(open_)
    missed = [(*_corners(people[index]), float("nan"), f"missed {names[labels[index]]}") for index in left]
    return Example(image, (*drawn, *missed), (len(boxes) - false, len(missed), false))


def picture(example: Example, number: int, folder: Path, split: str) -> Picture:
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
    found, missed, false = example.counts
    caption = f"{example.image.name}: {found} found, {missed} missed, {false} false at confidence >= {SHOWN_FROM}"
    return Picture(f"{split}/detections", path, caption, example.boxes)


def _corners(box: Any) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(value), 1) for value in box)
    return x1, y1, x2, y2


def _array(values: Any) -> Any:
    """A tensor as float64, which is what overlaps are computed in."""
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values, np.float64)
