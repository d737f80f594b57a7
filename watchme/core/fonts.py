"""Fonts for texts that are drawn into pictures."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont


def font_for(text: str, size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    """Pillow's own font; for letters that it does not have, such as umlauts, matplotlib's."""
    from PIL import ImageFont

    file = dejavu_sans()
    return ImageFont.load_default(size) if text.isascii() or file is None else ImageFont.truetype(str(file), size)


def dejavu_sans() -> Path | None:
    """The font file that matplotlib brings along; None where it is missing. matplotlib is not imported."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return file if file.is_file() else None
