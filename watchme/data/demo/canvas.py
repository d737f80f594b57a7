"""Anti-aliased drawing with Pillow, in units of the drawn object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

Point = tuple[float, float]
"""x to the right and y downward, in the units of the canvas."""

OVERSAMPLE = 3


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor below 1) or lighter (above), held within 0 to 255."""
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return red, green, blue


@dataclass(frozen=True)
class Sprite:
    """A drawn thing cut out of its background."""

    image: Image.Image  # RGBA picture, pixels of the frame it goes into
    anchor: tuple[int, int]  # the point (x, y) of the picture that stands on the ground, pixels

    def alpha(self) -> NDArray[np.float32]:
        """Return the coverage of each pixel, shape (height, width), 0 to 1."""
        return np.asarray(self.image.getchannel("A"), dtype=np.float32) / np.float32(255)


class Canvas:
    """A transparent sheet, drawn on three times as large as it will be used, and then averaged down.

    It spans x from `left` to `right` and y, downward, from `top` to `bottom`, in units of `scale` pixels of the frame;
    the drawn thing stands at x = 0.
    """

    def __init__(self, left: float, right: float, top: float, bottom: float, scale: float) -> None:
        self.origin = (left, top)
        self.scale = scale
        width, height = max(2, round((right - left) * scale)), max(2, round((bottom - top) * scale))
        self.image = Image.new("RGBA", (width * OVERSAMPLE, height * OVERSAMPLE))
        self._draw = ImageDraw.Draw(self.image)

    def pixel(self, point: Point) -> Point:
        """Return the oversampled pixel position of a point."""
        factor = self.scale * OVERSAMPLE
        return (point[0] - self.origin[0]) * factor, (point[1] - self.origin[1]) * factor

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([self.pixel(point) for point in points], fill=colour)

    def ellipse(self, centre: Point, rx: float, ry: float, colour: Colour) -> None:
        """Fill an upright ellipse with half axes rx and ry, in units."""
        low, high = (self.pixel((centre[0] - rx, centre[1] - ry)), self.pixel((centre[0] + rx, centre[1] + ry)))
        self._draw.ellipse((*low, *high), fill=colour)

    def half_ellipse(self, centre: Point, rx: float, ry: float, colour: Colour) -> None:
        """Fill the upper half of an ellipse."""
        low, high = (self.pixel((centre[0] - rx, centre[1] - ry)), self.pixel((centre[0] + rx, centre[1] + ry)))
        self._draw.pieslice((*low, *high), 180, 360, fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self._draw.rectangle((*self.pixel((left, top)), *self.pixel((right, bottom))), fill=colour)

    def rounded(self, left: float, top: float, right: float, bottom: float, radius: float, colour: Colour) -> None:
        """Fill an upright rectangle with rounded corners."""
        corners = (*self.pixel((left, top)), *self.pixel((right, bottom)))
        self._draw.rounded_rectangle(corners, radius=radius * self.scale * OVERSAMPLE, fill=colour)

    def limb(self, start: Point, end: Point, start_radius: float, end_radius: float, colour: Colour) -> None:
        """Fill a tapering tube with round ends."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = max((dx * dx + dy * dy) ** 0.5, 1e-6)
        nx, ny = -dy / length, dx / length
        self.polygon(
            [
                (start[0] + nx * start_radius, start[1] + ny * start_radius),
                (end[0] + nx * end_radius, end[1] + ny * end_radius),
                (end[0] - nx * end_radius, end[1] - ny * end_radius),
                (start[0] - nx * start_radius, start[1] - ny * start_radius),
            ],
            colour,
        )
        self.ellipse(start, start_radius, start_radius, colour)
        self.ellipse(end, end_radius, end_radius, colour)

    def overlay(self, other: "Canvas", within: Sequence[Point]) -> None:
        """Draw a canvas of the same size on this one, only within a polygon."""
        stencil = Image.new("L", self.image.size)
        ImageDraw.Draw(stencil).polygon([self.pixel(point) for point in within], fill=255)
        self.image.paste(other.image, (0, 0), stencil)

    def sprite(self, ground: float) -> Sprite:
        """Average down to frame pixels; `ground` is the y, in units, of the ground the thing stands on."""
        # Averaging must weigh colours by their coverage, or edges pick up the black of empty pixels.
        small = self.image.convert("RGBa").reduce(OVERSAMPLE).convert("RGBA")
        anchor = (round(-self.origin[0] * self.scale), round((ground - self.origin[1]) * self.scale))
        return Sprite(small, anchor)
