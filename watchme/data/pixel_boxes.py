"""Boxes in pixels: validated, clipped to the image, and written as YOLO label lines."""

import math
from collections.abc import Iterable

Box = tuple[float, float, float, float]
"""Left, top, right, bottom: edges in pixels from the image's upper left corner, so that width = right - left."""
Size = tuple[int, int]
"""Width, height in pixels, as the image is shown (after its EXIF rotation)."""


def box_of(values: object) -> Box:
    """The box of `[left, top, width, height]`.

    Raises:
        ValueError: If it is not four finite numbers, or a side is negative; the text says what was found.
    """
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        raise ValueError(f"a box of four numbers was expected, found {values!r}")
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        raise ValueError(f"a box of four numbers was expected, found {values!r}")
    try:
        left, top, width, height = map(float, values)
    except OverflowError:  # a whole number of hundreds of digits
        raise ValueError("a box has a number that is beyond those of 64 bits") from None
    if not all(map(math.isfinite, (left, top, width, height))):
        raise ValueError(f"a box has a number that is not finite: {values!r}")
    if width < 0 or height < 0:
        raise ValueError(f"a box has a negative width or height: {values!r}")
    return left, top, left + width, top + height


def clipped(box: Box, size: Size) -> Box | None:
    """The part of a box that is in the image; None where that has no area."""
    width, height = size
    left, top, right, bottom = max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])
    return (left, top, right, bottom) if right > left and bottom > top else None


def label_line(box: Box, size: Size) -> str | None:
    """`0 cx cy w h` as shares of the image with six decimals; None where nothing is left of a side."""
    inside = clipped(box, size)
    if inside is None:
        return None
    (left, top, right, bottom), (width, height) = inside, size
    w, h = f"{(right - left) / width:.6f}", f"{(bottom - top) / height:.6f}"
    if float(w) == 0 or float(h) == 0:
        return None
    return f"0 {(left + right) / 2 / width:.6f} {(top + bottom) / 2 / height:.6f} {w} {h}"


def pixels(box: Box, size: Size) -> tuple[int, int, int, int] | None:
    """The whole pixels that a box covers best, within the image; None where there are none."""
    inside = clipped(box, size)
    if inside is None:
        return None
    left, top, right, bottom = (math.floor(value + 0.5) for value in inside)
    return (left, top, right, bottom) if right > left and bottom > top else None


def overlaps(box: Box, others: Iterable[Box]) -> bool:
    """Whether a box shares area with any of the others."""
    return any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in others)
