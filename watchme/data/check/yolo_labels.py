"""YOLO label files: which lines are valid, and which valid boxes are suspicious (outside the image, repeated)."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from watchme.metrics.iou import Floats, iou_matrix

# As in ultralytics: coordinates may exceed 0..1 by rounding.
TOLERANCE = 0.01
# Of two boxes on one thing; people who stand in a row overlap less.
SAME_BOX = 0.95
_AT_ONCE = 256  # boxes that are compared with all others: a file may hold thousands


class Line(NamedTuple):
    """One line of a label file that is not blank."""

    number: int  # from 1
    text: str  # as it stands there
    class_id: int = -1  # -1 where `fault` says what is wrong
    # What follows the class: cx, cy, w, h, or the corners x, y, x, y, ... of a polygon; no keypoints.
    values: tuple[float, ...] = ()
    fault: str = ""  # why it is not valid; empty if it is


class Box(NamedTuple):
    """A box, as shares of the image's width and height."""

    line: int
    class_id: int
    x: float
    y: float
    w: float
    h: float


def read_label(path: Path, classes: int, keypoint_values: int = 0) -> list[Line]:
    """Lines of a label file; none where it is not there.

    Boxes may have `keypoint_values` numbers behind them where data.yaml says so by `kpt_shape`; they are dropped.
    Without it, lines that may be boxes with more columns as well as polygons are faults: as polygons they would be
    wrong boxes.
    """
    if not path.is_file():
        return []
    try:
        content = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        return [Line(1, "", fault=f"cannot be read: {error.strerror}")]
    texts = [(number, text) for number, text in enumerate(content.splitlines(), 1) if text.strip()]
    polygons: set[bool] = set()
    lines = [_read_line(number, text, classes, keypoint_values, polygons) for number, text in texts]
    if _are_poses([line.values for line in lines if not line.fault]):
        fault = "looks like a pose (a box and keypoints): say kpt_shape in data.yaml, e.g. kpt_shape: [17, 3]"
        return [line if line.fault else Line(line.number, line.text, fault=fault) for line in lines]
    return lines


def box_of(line: Line) -> Box:
    """The box of a valid line, or the one around its polygon."""
    if len(line.values) == 4:
        return Box(line.number, line.class_id, *line.values)
    across, down = line.values[::2], line.values[1::2]
    left, right, top, bottom = min(across), max(across), min(down), max(down)
    return Box(line.number, line.class_id, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def overrun(box: Box) -> float:
    """By how much a box reaches over the frame, as a share of the image; 0 if it does not."""
    sides = (box.w / 2 - box.x, box.x + box.w / 2 - 1, box.h / 2 - box.y, box.y + box.h / 2 - 1)
    return max(0.0, *sides)


def repeated(boxes: Sequence[Box]) -> Iterator[tuple[Box, Box]]:
    """Pairs of boxes of one class that cover the same thing, the later one first; each is named once."""
    for place, box in enumerate(boxes):
        if place % _AT_ONCE == 0:
            alike = overlaps(boxes[place : place + _AT_ONCE], boxes) > SAME_BOX
        for number, earlier in enumerate(boxes[:place]):
            if earlier.class_id == box.class_id and (alike[place % _AT_ONCE, number] or earlier[2:] == box[2:]):
                yield box, earlier
                break


def overlaps(some: Sequence[Box], others: Sequence[Box]) -> Floats:
    """(len(some), len(others)) intersection over union."""
    return iou_matrix(_corners(some), _corners(others))


def _corners(boxes: Sequence[Box]) -> Floats:
    values = np.array([box[2:] for box in boxes], np.float64).reshape(-1, 4)
    return np.hstack([values[:, :2] - values[:, 2:] / 2, values[:, :2] + values[:, 2:] / 2])


def _read_line(number: int, text: str, classes: int, keypoint_values: int, polygons: set[bool]) -> Line:
    words = text.split()
    try:
        class_id, *values = [float(word) for word in words]
    except ValueError:
        return Line(number, text, fault=f"not numbers: {text.strip()[:60]}")
    if keypoint_values and len(values) == 4 + keypoint_values:
        values = values[:4]
    elif keypoint_values and len(values) != 4:
        fault = f"a box and {keypoint_values} numbers of keypoints were expected by kpt_shape, got {len(values) + 1}"
        return Line(number, text, fault=f"{fault} numbers")
    if fault := _column_fault(values, words):
        return Line(number, text, fault=fault)
    polygons.add(len(values) != 4)
    if len(polygons) > 1:
        fault = "boxes and polygons in one file"
    elif not math.isfinite(class_id) or class_id != int(class_id) or not 0 <= class_id < classes:
        fault = f"class {class_id:g} is not in 0..{classes - 1} (nc is {classes})"
    elif not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        fault = "a coordinate is outside 0..1; they are shares of the image's width and height"
    elif len(values) == 4 and min(values[2:]) < 0:
        fault = "a width or height is negative"
    else:
        return Line(number, text, int(class_id), tuple(values))
    return Line(number, text, fault=fault)


def _column_fault(values: Sequence[float], words: Sequence[str]) -> str:
    """Why a line is neither a box nor a polygon, by its columns; empty if it is one."""
    if len(values) == 5:
        return "expected `class cx cy w h`, got 6 numbers: a box with its confidence? Keep the first five"
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        return f"expected `class cx cy w h`, got {len(values) + 1} numbers"
    if len(values) == 6 and values[5].is_integer():
        return (
            "7 numbers, the last one whole: a box with confidence and track as trackers write it, and not the three "
            "corners of a polygon? Keep the first five"
        )
    return ""


def _are_poses(lines: Sequence[tuple[float, ...]]) -> bool:
    """Whether what could be polygons fills boxes that its first four numbers would be, in every line of a file.

    Keypoints are inside the box before them and span most of it. Corners of a polygon hardly ever do, since
    the second corner would have to be the size of the box that has the first corner in its middle.
    """
    return bool(lines) and len({len(values) for values in lines}) == 1 and all(map(_is_pose, lines))


def _is_pose(values: Sequence[float]) -> bool:
    (cx, cy, w, h), rest = values[:4], values[4:]
    if len(values) == 8:  # four corners, or two keypoints; those of a turned box are a parallelogram
        slant = abs(cx + rest[0] - w - rest[2]) + abs(cy + rest[1] - h - rest[3])
        return slant > TOLERANCE and all(
            abs(x - cx) <= w / 2 + TOLERANCE and abs(y - cy) <= h / 2 + TOLERANCE for x, y in (rest[:2], rest[2:])
        )
    if len(values) < 10:
        return False
    for step in (2, 3) if len(rest) % 3 == 0 else (2,):
        points = [(rest[at], rest[at + 1]) for at in range(0, len(rest), step)]
        points = [point for point in points if point != (0, 0)]  # keypoints that are not labelled
        visible = step == 2 or set(rest[2::3]) <= {0.0, 1.0, 2.0}
        if visible and len(points) >= 3 and _fill(points, (cx, cy, w, h)):
            return True
    return False


def _fill(points: Sequence[tuple[float, float]], box: tuple[float, ...]) -> bool:
    """Whether points are in a box and span half of its height and a quarter of its width."""
    cx, cy, w, h = box
    across, down = [x for x, _ in points], [y for _, y in points]
    inside = all(abs(x - cx) <= w / 2 + TOLERANCE and abs(y - cy) <= h / 2 + TOLERANCE for x, y in points)
    return inside and max(down) - min(down) >= h / 2 and max(across) - min(across) >= w / 4
