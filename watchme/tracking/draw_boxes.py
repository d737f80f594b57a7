"""Detection boxes drawn into a picture, for viewers that cannot draw them themselves."""

import io
import math

from PIL import Image, ImageDraw

from watchme.core.fonts import font_for
from watchme.core.interfaces import Picture

# Found, missed (ground truth), and found wrongly, by the first word of the label; distinct for the colour-blind.
_COLOURS = {"missed": "#e8b400", "false": "#d1322b"}
_FOUND = "#12805c"
# Smaller pictures are enlarged first: a label would hide what its box shows.
_READABLE = 640


def with_boxes(picture: Picture, width: int | None = None) -> bytes:
    """The picture's file with its boxes drawn in; the file as it is where there is nothing to do.

    Args:
        picture: PNG or JPEG file and its boxes.
        width: Scale down to so many pixels; boxes in a small picture are drawn after scaling it up. None
            keeps the size.

    Returns:
        PNG or JPEG bytes.
    """
    with Image.open(picture.path) as image:
        if not picture.boxes and (width is None or image.width <= width):
            return picture.path.read_bytes()
        kind = "PNG" if image.format == "PNG" else "JPEG"
        drawn = image.convert("RGB")
    wanted = min(width or drawn.width, max(drawn.width, _READABLE))
    scale = wanted / drawn.width
    if wanted != drawn.width:
        drawn = drawn.resize((wanted, max(1, round(drawn.height * scale))), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(drawn)
    size = max(11, drawn.width // 45)
    kinds = [_kind_and_class(box[5]) for box in picture.boxes]
    one_class = len({name for _, name in kinds}) == 1
    for (x1, y1, x2, y2, score, _), (kind_of_box, name) in zip(picture.boxes, kinds, strict=True):
        colour = _COLOURS.get(kind_of_box, _FOUND)
        left, top = x1 * scale, y1 * scale
        pen.rectangle((left, top, max(left, x2 * scale), max(top, y2 * scale)), outline=colour, width=max(2, size // 6))
        shown = [kind_of_box, "" if one_class else name, "" if math.isnan(score) else f"{score:.2f}"]
        text = " ".join(filter(None, shown))
        font = font_for(text, size)
        place = (left, max(0.0, top - size - 4))
        pen.rectangle((*place, left + pen.textlength(text, font) + 6, place[1] + size + 4), fill=colour)
        pen.text((left + 3, place[1] + 1), text, fill="black" if colour == _COLOURS["missed"] else "white", font=font)
    file = io.BytesIO()
    drawn.save(file, kind, quality=82)
    return file.getvalue()


def _kind_and_class(label: str) -> tuple[str, str]:
    """`missed`, `false` or nothing, and the name of the class, which a picture of one class need not repeat."""
    first, _, rest = label.partition(" ")
    return (first, rest) if first in _COLOURS else ("", label)
