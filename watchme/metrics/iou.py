"""Overlap of boxes (x1, y1, x2, y2), in pixels or any other unit: areas, intersections, IoU."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def box_areas(boxes: Any) -> Floats:
    """(n,) areas of (n, 4) boxes; 0 where a box is inside out."""
    return np.asarray(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1), np.float64)


def intersection_matrix(one: Floats, other: Floats) -> Floats:
    """(n, m) areas that (n, 4) and (m, 4) boxes share."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared: Floats = np.clip(high - low, 0, None).prod(axis=2)
    return shared


def iou_matrix(one: Floats, other: Floats) -> Floats:
    """(n, m) intersection over union of (n, 4) and (m, 4) boxes; 0 for boxes without area."""
    inside = intersection_matrix(one, other)
    union = box_areas(one)[:, None] + box_areas(other)[None, :] - inside
    shares: Floats = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    return shares
