"""Fonts for texts that are drawn into pictures."""

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont


def font_for(text: str, size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    """Pillow's own font; for letters that it does not have, such as umlauts, matplotlib's."""
    return _font(size, own=text.isascii())


@functools.cache  # a picture has a text for each of its boxes
def _font(size: int, *, own: bool) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    from PIL import ImageFont

    file = None if own else dejavu_sans()
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(str(file), size)


def dejavu_sans() -> Path | None:
    """The font file bundled with matplotlib, which is not imported; None where it is missing."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return file if file.is_file() else None
