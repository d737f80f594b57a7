"""Contact sheets of a check: the first images of each kind of problem, with the box drawn, pairs side by side."""

import re
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from watchme.core.fonts import font_for
from watchme.data.check.database import Facts, Finding, Shown
from watchme.data.check.image_probe import thumbnail

MOST = 24
_TILE = (176, 200)
_GAP, _MARGIN, _LINE, _FONT = 10, 12, 15, 12
_COLUMNS = 6
_BACKGROUND, _INK, _SOFT, _BAD = (255, 255, 255), (30, 30, 30), (110, 110, 110), (214, 40, 40)
# Notes are for information, and sound datasets have them.
_NOT_SHOWN = ("note",)


def draw_sheets(facts: Facts, folder: Path) -> list[Shown]:
    """One PNG in `folder` for each kind of error and warning that has pictures to show."""
    shown = []
    for count in facts.counts():
        if count.kind.severity in _NOT_SHOWN:
            continue
        found = [one for one in facts.findings(count.kind.name, MOST) if _picture(one)]
        if not found:
            continue
        name = re.sub(r"\W+", "_", count.kind.name)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _sheet(found).save(path, "PNG")
        some = f"the first {len(found)} of {count.count}" if count.count > len(found) else f"{count.count}"
        shown.append(Shown(f"offenders/{name}", path, f"{count.kind.severity}, {some} found"))
    return shown


def _picture(one: Finding) -> str:
    """The image that a finding is about; empty where it is about none."""
    if one.other and not one.other_split:
        return one.other
    return "" if one.file.endswith(".txt") else one.file


def _sheet(found: list[Finding]) -> Image.Image:
    pairs = any(one.other_split for one in found)
    wide = 2 * _TILE[0] + 4 if pairs else _TILE[0]
    columns = min(len(found), _COLUMNS // 2 if pairs else _COLUMNS)
    rows = -(-len(found) // columns)
    high = _TILE[1] + 3 * _LINE + 6
    width = 2 * _MARGIN + columns * wide + (columns - 1) * _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + rows * high + (rows - 1) * _GAP), _BACKGROUND)
    for number, one in enumerate(found):
        left = _MARGIN + number % columns * (wide + _GAP)
        top = _MARGIN + number // columns * (high + _GAP)
        if pairs and one.other_split:
            _tile(sheet, left, top, one.other, None, (one.other_split, Path(one.other).name, ""))
            left += _TILE[0] + 4
            detail = "" if one.detail.startswith(("the same file", "looks like")) else one.detail
        else:
            detail = one.detail
        line = f" line {one.line}" if one.line else ""
        _tile(sheet, left, top, _picture(one), one.box, (one.split + line, Path(one.file).name, detail))
    return sheet


def _tile(
    sheet: Image.Image,
    left: int,
    top: int,
    file: str,
    box: tuple[float, float, float, float] | None,
    lines: tuple[str, str, str],
) -> None:
    """Paste one picture with its box and three lines below it."""
    picture = thumbnail(Path(file), *_TILE)
    x, y = left + (_TILE[0] - picture.width) // 2, top + (_TILE[1] - picture.height) // 2
    sheet.paste(picture, (x, y))
    pen = ImageDraw.Draw(sheet)
    if box is not None:
        _frame(pen, box, (x, y), picture.size)
    below = top + _TILE[1] + 4
    for place, (text, colour) in enumerate(zip(lines, (_INK, _SOFT, _BAD), strict=True)):
        font = font_for(text, _FONT)
        pen.text((left, below + place * _LINE), _fitted(text, font), fill=colour, font=font)


def _frame(
    pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Draw a box, at least three pixels wide, and cut off a little outside of the picture."""
    cx, cy, w, h = box
    over = 3

    def place(share: float, start: int, length: int) -> float:
        return start + min(max(share * length, -over), length + over)

    sides = [
        place(cx - w / 2, corner[0], size[0]),
        place(cy - h / 2, corner[1], size[1]),
        place(cx + w / 2, corner[0], size[0]),
        place(cy + h / 2, corner[1], size[1]),
    ]
    if sides[2] - sides[0] < 3 or sides[3] - sides[1] < 3:
        sides = [sides[0] - 3, sides[1] - 3, sides[2] + 3, sides[3] + 3]
    pen.rectangle(sides, outline=_BAD, width=2)


def _fitted(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    """Text no wider than a tile, cut off at its end."""
    if font.getlength(text) <= _TILE[0]:
        return text
    while text and font.getlength(text + "…") > _TILE[0]:
        text = text[:-1]
    return text + "…"
