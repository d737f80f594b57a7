"""Texts in pictures: letters that are not of ASCII are drawn, not a box in their place."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from watchme.core.fonts import font_for
from watchme.core.interfaces import Picture
from watchme.data.check.contact_sheets import _sheet
from watchme.data.check.database import Finding
from watchme.tracking.draw_boxes import with_boxes


def boxes_of(name: str, folder: Path) -> bytes:
    path = folder / "picture.png"
    Image.new("RGB", (64, 64), "grey").save(path)
    boxes = ((4.0, 20.0, 30.0, 25.0, 0.9, name), (4.0, 60.0, 30.0, 63.0, 0.9, "car"))
    return with_boxes(Picture("val/predictions", path, boxes=boxes))


def sheet_of(name: str, folder: Path) -> bytes:
    return _sheet([Finding("no label file", "train", f"{folder}/{name}.txt")]).tobytes()


@pytest.mark.parametrize("draw", [boxes_of, sheet_of])
def test_umlauts_are_told_apart(draw: Callable[[str, Path], bytes], tmp_path: Path) -> None:
    assert draw("ä", tmp_path) != draw("ö", tmp_path)
    assert draw("ä", tmp_path) == draw("ä", tmp_path)


def test_a_text_of_ascii_keeps_the_font_of_the_other_pictures() -> None:
    assert font_for("person", 12).getlength("person") == ImageFont.load_default(12).getlength("person")
