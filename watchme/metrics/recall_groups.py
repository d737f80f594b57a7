"""Whom a detector misses: its recall by the size of people, by how many are in an image, and by how they overlap."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from watchme.metrics.iou import Floats, box_areas, iou_matrix

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# COCO's small, medium and large: areas below 32^2, below 96^2, and above, in pixels of the image.
_SIZES: dict[str, float] = {"small, below 32 px": 0, "medium, 32 to 96 px": 32**2, "large, from 96 px": 96**2}
_CROWDS: dict[str, float] = {"nobody": 0, "1": 1, "2": 2, "3 to 4": 3, "5 to 9": 5, "10 to 19": 10, "20 or more": 20}
# Greatest IoU with the box of another person.
_OVERLAPS = {"none": 0.0, "up to 0.2": 1e-9, "0.2 to 0.4": 0.2, "above 0.4": 0.4}
COLUMNS = ("by", "group", "people", "found", "recall", "false")


@dataclass(frozen=True, eq=False)
class Frame:
    """People and detections of one image."""

    people: Floats  # (p, 4) boxes x1, y1, x2, y2 in pixels of the image
    found: Bools  # (p,) which of them a detection matches
    false: Floats  # (f, 4) boxes of detections that match nobody


def recall_by_group(frames: Sequence[Frame]) -> Iterator[tuple[str, str, int, int, float, int | str]]:
    """Rows of `COLUMNS`: how many people of each group there are and how many of them are found.

    Sizes are the root of a box's area (COCO's bounds); the crowd is the number of people in the image; overlap is a
    person's greatest IoU with another one. False detections are counted by their own size, and by the crowd of their
    image; an overlap they do not have. Groups that hold nothing are left out.

    Args:
        frames: All images.

    Yields:
        What is grouped by, group, people, found, recall (NaN where there is nobody), false detections.
    """
    if not frames:
        return
    found = np.concatenate([frame.found for frame in frames])
    areas = np.concatenate([box_areas(frame.people) for frame in frames])
    false_areas = np.concatenate([box_areas(frame.false) for frame in frames])
    crowds = np.concatenate([np.full(len(frame.people), len(frame.people)) for frame in frames])
    false_crowds = np.concatenate([np.full(len(frame.false), len(frame.people)) for frame in frames])
    overlaps = np.concatenate([_greatest_overlap(frame.people) for frame in frames])
    yield from _rows("size", _SIZES, areas, found, false_areas)
    yield from _rows("people in the image", _CROWDS, crowds, found, false_crowds)
    yield from _rows("overlap with another person", _OVERLAPS, overlaps, found, None)


def _rows(
    by: str, groups: dict[str, float], values: Floats | Ints, found: Bools, false: Floats | Ints | None
) -> Iterator[tuple[str, str, int, int, float, int | str]]:
    bounds = [*list(groups.values())[1:], np.inf]
    number = np.searchsorted(bounds, values, side="right")
    numbers_false = np.searchsorted(bounds, false, side="right") if false is not None else None
    for index, name in enumerate(groups):
        here = number == index
        wrong = "" if numbers_false is None else int((numbers_false == index).sum())
        if people := int(here.sum()):
            right = int(found[here].sum())
            yield by, name, people, right, right / people, wrong
        elif wrong:
            yield by, name, 0, 0, float("nan"), wrong


def _greatest_overlap(people: Floats) -> Floats:
    overlaps = iou_matrix(people, people)
    np.fill_diagonal(overlaps, 0.0)
    greatest: Floats = overlaps.max(axis=1, initial=0.0)
    return greatest
