"""Backgrounds of the demo world: painted streets, and furniture that people walk behind."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from watchme.data.demo.canvas import Canvas, Colour, Sprite, shade

# Backgrounds are drawn on a unit square: x and y from 0 to 1, y downward.


def paint_street(kind: int, size: int, horizon: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Paint an empty street, RGB of shape (size, size, 3), 0 to 255.

    `kind` is the number of the camera, from 0: streets repeat in kind, not in detail, after four. `horizon` is its y as
    a share of the side.
    """
    sheet = Canvas(0, 1, 0, 1, size)
    painters = (_avenue, _park, _shops, _station)
    painters[kind % len(painters)](sheet, horizon, rng)
    flat = np.asarray(sheet.sprite(1).image.convert("RGB"), dtype=np.float32)
    return flat * (1 + _grain(size, 10, 0.07, rng) + _grain(size, size // 3, 0.05, rng))


def _grain(size: int, cells: int, strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth blotches, shape (size, size, 1), about zero."""
    coarse = rng.normal(0, strength, (cells, cells)).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32)[..., None]


def _pick(rng: np.random.Generator, *colours: Colour) -> Colour:
    return shade(colours[int(rng.integers(len(colours)))], float(rng.uniform(0.9, 1.1)))


def _ground(sheet: Canvas, top: float, colour: Colour, rows: int, joint: float = 0.9) -> None:
    """Pave the ground from `top` down, with joints that run to a vanishing point."""
    sheet.box(0, top, 1, 1, colour)
    for row in range(1, rows + 1):
        y = top + (1 - top) * (row / rows) ** 2
        sheet.box(0, y - 0.002, 1, y + 0.001, shade(colour, joint))
    for column in range(-12, 13):
        far, near = 0.5 + column * 0.07, 0.5 + column * 0.22
        sheet.polygon([(far, top), (far + 0.002, top), (near + 0.005, 1), (near, 1)], shade(colour, joint + 0.03))


def _houses(sheet: Canvas, horizon: float, rng: np.random.Generator, floors: int) -> None:
    x = -0.05
    while x < 1:
        width, roof = float(rng.uniform(0.16, 0.3)), float(rng.uniform(-0.1, 0.12))
        wall = _pick(rng, (176, 122, 98), (198, 182, 152), (142, 146, 152), (168, 92, 78), (206, 198, 186))
        sheet.box(x, roof, x + width, horizon, wall)
        sheet.box(x, roof, x + width, roof + 0.012, shade(wall, 0.7))
        glass = _pick(rng, (88, 104, 120), (64, 72, 84), (152, 170, 182))
        for floor in range(floors):
            y = roof + 0.04 + floor * (horizon - roof) / floors
            for column in range(3):
                left = x + width * (0.12 + 0.29 * column)
                sheet.box(left - 0.004, y - 0.004, left + width * 0.19, y + 0.07, shade(wall, 1.18))
                sheet.box(left, y, left + width * 0.17, y + 0.065, glass)
        x += width


def _avenue(sheet: Canvas, horizon: float, rng: np.random.Generator) -> None:
    sheet.box(0, 0, 1, horizon, _pick(rng, (172, 198, 222), (196, 204, 210)))
    _houses(sheet, horizon, rng, 3)
    asphalt = _pick(rng, (94, 96, 100), (108, 106, 104))
    sheet.box(0, horizon, 1, horizon + 0.09, asphalt)
    for dash in range(8):
        sheet.box(dash * 0.14, horizon + 0.04, dash * 0.14 + 0.07, horizon + 0.05, (214, 212, 204))
    _ground(sheet, horizon + 0.1, _pick(rng, (168, 162, 154), (150, 150, 152)), 7)
    sheet.box(0, horizon + 0.09, 1, horizon + 0.105, (198, 194, 188))


def _park(sheet: Canvas, horizon: float, rng: np.random.Generator) -> None:
    sheet.box(0, 0, 1, horizon, _pick(rng, (150, 190, 226), (186, 206, 220)))
    leaf = _pick(rng, (70, 118, 62), (94, 128, 58), (134, 116, 52))
    for _ in range(16):
        x, radius = float(rng.uniform(0, 1)), float(rng.uniform(0.06, 0.13))
        sheet.ellipse((x, horizon - radius * 0.9), radius, radius * 1.2, shade(leaf, float(rng.uniform(0.65, 1.05))))
    for _ in range(5):
        x = float(rng.uniform(0, 1))
        sheet.box(x - 0.012, horizon - 0.13, x + 0.012, horizon + 0.05, (92, 70, 52))
        for _ in range(5):
            at = (x + float(rng.normal(0, 0.045)), horizon - 0.2 + float(rng.normal(0, 0.05)))
            sheet.ellipse(at, 0.065, 0.06, shade(leaf, float(rng.uniform(0.85, 1.25))))
    grass = _pick(rng, (104, 142, 76), (122, 144, 82))
    sheet.box(0, horizon, 1, 1, grass)
    path = _pick(rng, (196, 180, 150), (182, 170, 152))
    sheet.polygon([(0.3, horizon + 0.05), (0.62, horizon + 0.05), (1.25, 1), (-0.2, 1)], path)
    for _ in range(60):
        x, y = float(rng.uniform(0, 1)), float(rng.uniform(horizon + 0.02, 1))
        sheet.ellipse((x, y), 0.012, 0.004, shade(path, float(rng.uniform(0.8, 1.0))))


def _shops(sheet: Canvas, horizon: float, rng: np.random.Generator) -> None:
    _houses(sheet, horizon, rng, 4)
    x = 0.0
    while x < 1:
        width = float(rng.uniform(0.2, 0.32))
        sign = _pick(rng, (150, 46, 50), (44, 84, 120), (56, 104, 74), (202, 152, 60), (92, 62, 104))
        sheet.box(x, horizon - 0.24, x + width, horizon + 0.06, shade(sign, 0.6))
        sheet.box(x + 0.015, horizon - 0.17, x + width * 0.66, horizon + 0.04, (186, 196, 196))
        sheet.box(x + width * 0.72, horizon - 0.17, x + width - 0.02, horizon + 0.06, (74, 72, 74))
        for stripe in range(8):
            left, step = x + stripe * width / 8, width / 8
            colour = sign if stripe % 2 else (234, 228, 216)
            sheet.polygon(
                [
                    (left, horizon - 0.23),
                    (left + step, horizon - 0.23),
                    (left + step * 1.1, horizon - 0.15),
                    (left, horizon - 0.15),
                ],
                colour,
            )
        x += width
    _ground(sheet, horizon + 0.06, _pick(rng, (186, 152, 132), (174, 168, 160)), 10, 0.82)


def _station(sheet: Canvas, horizon: float, rng: np.random.Generator) -> None:
    wall = _pick(rng, (206, 210, 206), (182, 196, 200), (214, 204, 178))
    sheet.box(0, 0, 1, horizon, wall)
    for row in range(10):
        sheet.box(0, row * horizon / 10, 1, row * horizon / 10 + 0.003, shade(wall, 0.86))
    band = _pick(rng, (34, 92, 150), (176, 52, 44), (30, 118, 92))
    sheet.box(0, horizon * 0.36, 1, horizon * 0.5, band)
    for poster in range(4):
        x = 0.05 + poster * 0.26 + float(rng.uniform(0, 0.05))
        paper = _pick(rng, (226, 206, 120), (128, 170, 200), (214, 130, 112), (232, 230, 224))
        sheet.box(x, horizon * 0.56, x + 0.13, horizon * 0.94, shade(paper, 0.5))
        sheet.box(x + 0.006, horizon * 0.58, x + 0.124, horizon * 0.92, paper)
        sheet.ellipse((x + 0.065, horizon * 0.72), 0.035, 0.035, shade(paper, 0.7))
    sheet.box(0, horizon, 1, horizon + 0.08, (62, 60, 62))
    _ground(sheet, horizon + 0.08, _pick(rng, (146, 144, 146), (160, 156, 148)), 9, 0.85)
    sheet.box(0, horizon + 0.1, 1, horizon + 0.12, (222, 186, 60))


# Furniture is drawn in metres, standing on y = 0.


def _lamp(rng: np.random.Generator, scale: float) -> Sprite:
    sheet = Canvas(-0.6, 0.6, -3.4, 0.05, scale)
    iron = _pick(rng, (58, 62, 66), (86, 96, 90))
    sheet.box(-0.11, -0.25, 0.11, 0.02, iron)
    sheet.limb((0, -3.2), (0, 0), 0.045, 0.065, iron)
    sheet.limb((0, -3.2), (0.4, -3.3), 0.035, 0.035, iron)
    sheet.rounded(0.3, -3.32, 0.58, -3.22, 0.03, (240, 232, 200))
    return sheet.sprite(0.02)


def _bench(rng: np.random.Generator, scale: float) -> Sprite:
    sheet = Canvas(-1.0, 1.0, -0.95, 0.05, scale)
    wood = _pick(rng, (136, 92, 58), (106, 78, 54))
    for x in (-0.8, 0.7):
        sheet.box(x, -0.85, x + 0.09, 0.02, (52, 54, 56))
    for y in (-0.88, -0.74, -0.6, -0.45):
        sheet.rounded(-0.95, y, 0.95, y + 0.1, 0.02, shade(wood, 1 + 0.2 * (y + 0.6)))
    return sheet.sprite(0.02)


def _bin(rng: np.random.Generator, scale: float) -> Sprite:
    sheet = Canvas(-0.35, 0.35, -1.1, 0.05, scale)
    colour = _pick(rng, (52, 92, 64), (78, 80, 84), (176, 120, 40))
    sheet.polygon([(-0.27, -0.9), (0.27, -0.9), (0.23, 0.02), (-0.23, 0.02)], colour)
    sheet.rounded(-0.3, -1.02, 0.3, -0.86, 0.06, shade(colour, 0.75))
    sheet.box(-0.18, -0.74, 0.18, -0.62, shade(colour, 0.5))
    return sheet.sprite(0.02)


def _planter(rng: np.random.Generator, scale: float) -> Sprite:
    sheet = Canvas(-0.85, 0.85, -1.15, 0.05, scale)
    leaf = _pick(rng, (64, 112, 60), (92, 124, 66))
    for _ in range(22):
        at = (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.9, -0.55)))
        sheet.ellipse(at, 0.19, 0.17, shade(leaf, float(rng.uniform(0.7, 1.25))))
    pot = _pick(rng, (158, 142, 126), (140, 84, 64))
    sheet.polygon([(-0.75, -0.5), (0.75, -0.5), (0.68, 0.02), (-0.68, 0.02)], pot)
    sheet.box(-0.78, -0.52, 0.78, -0.42, shade(pot, 1.12))
    return sheet.sprite(0.02)


def _car(rng: np.random.Generator, scale: float) -> Sprite:
    sheet = Canvas(-2.1, 2.1, -1.5, 0.05, scale)
    paint = _pick(rng, (150, 40, 44), (56, 84, 128), (188, 190, 194), (60, 64, 68), (222, 218, 208))
    sheet.polygon([(-1.1, -0.85), (-0.7, -1.4), (0.65, -1.4), (1.2, -0.85)], paint)
    for pane in ([(-0.9, -0.87), (-0.6, -1.28), (-0.05, -1.28), (-0.05, -0.87)],
                 [(0.05, -0.87), (0.05, -1.28), (0.58, -1.28), (0.98, -0.87)]):  # fmt: skip
        sheet.polygon(pane, (92, 110, 122))
    sheet.rounded(-2.0, -0.9, 2.0, -0.25, 0.2, paint)
    sheet.box(-1.9, -0.42, 1.9, -0.36, shade(paint, 0.7))
    for x in (-1.2, 1.25):
        sheet.ellipse((x, -0.3), 0.34, 0.34, (34, 34, 36))
        sheet.ellipse((x, -0.3), 0.18, 0.18, (164, 166, 170))
    return sheet.sprite(0.02)


def _bollard(rng: np.random.Generator, scale: float) -> Sprite:
    sheet = Canvas(-0.2, 0.2, -1.1, 0.05, scale)
    colour = _pick(rng, (58, 60, 64), (150, 62, 50))
    sheet.limb((0, -0.92), (0, -0.08), 0.1, 0.1, colour)
    sheet.box(-0.1, -0.85, 0.1, -0.75, (226, 222, 212))
    return sheet.sprite(0.02)


FURNITURE: tuple[Callable[[np.random.Generator, float], Sprite], ...] = (_lamp, _bench, _bin, _planter, _car, _bollard)
"""Each draws one piece: (rng, pixels of one metre) to a sprite anchored at the ground below its middle."""
