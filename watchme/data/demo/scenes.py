"""Frames of the demo world: who walks where, and the painted scene with boxes and visibility."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from watchme.data.demo.cameras import Camera
from watchme.data.demo.canvas import Sprite
from watchme.data.demo.identities import Person
from watchme.data.demo.pedestrian import Pose, draw_figure

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; the pixels at right and bottom are outside."""

Region = tuple[slice, slice]
"""Rows and columns."""

COVERED = 0.4
"""From this coverage on, a pixel at the rim counts as part of a person."""


@dataclass(frozen=True)
class Walker:
    """A person at one moment before one camera."""

    pid: int  # number of the identity, from 1
    x: float  # where they stand, pixels from the left edge of the frame
    ground: float  # y of their feet, pixels
    pose: Pose  # heading and step


@dataclass(frozen=True)
class Sighting:
    """A person as seen in a frame."""

    pid: int  # number of the identity
    box: Box  # the extent of what is seen of them; (0, 0, 0, 0) if that is nothing
    visible: float  # share of the whole figure that is neither hidden nor outside the frame, 0 to 1


def plan_walks(
    camera: Camera, pids: Sequence[int], walk_length: int, crowd: float, rng: np.random.Generator
) -> list[list[Walker]]:
    """Let every person walk once through a camera's view, seen in `walk_length` successive moments.

    `crowd` people are seen at once, on average. Returns the people in view at each moment, in order.
    """
    moments = max(walk_length, math.ceil(len(pids) * walk_length / crowd))
    plan: list[list[Walker]] = [[] for _ in range(moments)]
    for place, pid in enumerate(rng.permutation(np.asarray(pids))):
        start = round(place * (moments - walk_length) / max(1, len(pids) - 1))
        for step, walker in enumerate(_walk(camera, int(pid), walk_length, rng)):
            plan[start + step].append(walker)
    return plan


def _walk(camera: Camera, pid: int, length: int, rng: np.random.Generator) -> list[Walker]:
    size, (low, high) = camera.size, camera.near
    heading = float(rng.choice((0.0, math.pi / 2, math.pi, -math.pi / 2), p=(0.2, 0.3, 0.2, 0.3)))
    yaw = heading + float(rng.normal(0, 0.25))
    # Walking across shows in x, walking to or from the camera mostly in the place of the feet.
    across, along = math.sin(yaw), math.cos(yaw)
    reach = float(rng.uniform(0.35, 0.7)) * size
    middle_x, middle_ground = float(rng.uniform(0.2, 0.8)) * size, float(rng.uniform(low, high))
    phase = float(rng.uniform(0, 2 * math.pi))
    walkers: list[Walker] = []
    for step in range(length):
        share = step / max(1, length - 1) - 0.5
        x = middle_x + across * reach * share
        ground = float(np.clip(middle_ground + along * (high - low) * 0.7 * share, low, high))
        pose = Pose(yaw + float(rng.normal(0, 0.12)), phase + 1.9 * step)
        walkers.append(Walker(pid, float(np.clip(x, -0.01 * size, 1.01 * size)), ground, pose))
    return walkers


def paint_scene(
    camera: Camera, walkers: Sequence[Walker], people: Sequence[Person]
) -> tuple[NDArray[np.float32], list[Sighting]]:
    """Paint one moment before a camera, as yet untouched by its sensor; identity `pid` is `people[pid - 1]`.

    Returns:
        The light, RGB of shape (size, size, 3), 0 to 255, and one sighting per walker, in their order.
    """
    frame = Image.fromarray(np.clip(camera.street, 0, 255).astype(np.uint8))
    # (y of the ground, what, left, top, index of the walker or -1), painted from far to near.
    layers: list[tuple[float, Sprite, int, int, int]] = [
        (piece.ground, piece.sprite, piece.left, piece.top, -1) for piece in camera.furniture
    ]
    for index, walker in enumerate(walkers):
        height = camera.adult_height(walker.ground)
        sprite = draw_figure(people[walker.pid - 1], walker.pose, height)
        left, top = round(walker.x) - sprite.anchor[0], round(walker.ground) - sprite.anchor[1]
        layers.append((walker.ground, sprite, left, top, index))
        _cast_shadow(frame, walker.x, walker.ground, height)
    layers.sort(key=lambda layer: (layer[0], layer[4]))
    coverage: list[NDArray[np.float32] | None] = [None] * len(walkers)
    whole = [0.0] * len(walkers)
    for _, sprite, left, top, index in layers:
        frame.paste(sprite.image, (left, top), sprite.image)
        alpha = sprite.alpha()
        on_frame, of_sprite = _overlap(alpha.shape, left, top, camera.size)
        for behind in coverage:
            if behind is not None:
                behind[on_frame] *= 1 - alpha[of_sprite]
        if index >= 0:
            mask = coverage[index] = np.zeros((camera.size, camera.size), dtype=np.float32)
            mask[on_frame] = alpha[of_sprite]
            whole[index] = float(alpha.sum())
    sightings = [
        Sighting(walker.pid, _extent(mask), float(mask.sum()) / total)
        for walker, mask, total in zip(walkers, coverage, whole, strict=True)
        if mask is not None
    ]
    return np.asarray(frame, dtype=np.float32), sightings


def _cast_shadow(frame: Image.Image, x: float, ground: float, height: float) -> None:
    rx, ry = max(3, round(0.2 * height)), max(2, round(0.045 * height))
    stencil = Image.new("L", (rx * 4, ry * 4))
    ImageDraw.Draw(stencil).ellipse((rx, ry, rx * 3, ry * 3), fill=95)
    stencil = stencil.filter(ImageFilter.GaussianBlur(ry * 0.6))
    corner = (round(x) - rx * 2, round(ground) - ry * 2)
    frame.paste((24, 24, 30), (*corner, corner[0] + rx * 4, corner[1] + ry * 4), stencil)


def _overlap(shape: tuple[int, ...], left: int, top: int, size: int) -> tuple[Region, Region]:
    """Return the region of the frame that a sprite covers, and the region of the sprite that is there."""
    height, width = shape
    x0, y0, x1, y1 = max(0, left), max(0, top), min(size, left + width), min(size, top + height)
    if x0 >= x1 or y0 >= y1:
        nothing = slice(0, 0), slice(0, 0)
        return nothing, nothing
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _extent(mask: NDArray[np.float32]) -> Box:
    covered = mask >= COVERED
    columns, rows = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
    if not len(columns):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
