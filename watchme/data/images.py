"""Image files as 8-bit RGB: one reader for check, training, evaluation, person search and conversion.

Read are, by content and not by suffix: BMP, JPEG (and MPO), PNG, TIFF and WebP; of several pages or frames the first.

    1, L, P, LA, RGBA, CMYK, ...     RGB by Pillow; transparency is dropped
    16 bits a channel                the high byte, as ultralytics reads them
    32-bit float, above 16 bits      refused: which values are black and white is not known
    EXIF orientation                 followed in all formats

Only regular files are opened: a FIFO would block for ever.
"""

import io
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

from watchme.core.errors import DataError

FORMATS = frozenset({"BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP"})
_ORIENTATION = 0x0112
_SIXTEEN_BITS = 0xFFFF


def read_image(path: Path) -> Image.Image:
    """An image file as 8-bit RGB, the right way up.

    Raises:
        DataError: If it is missing, damaged, or of a kind that is not read.
    """
    try:
        require_regular(path)
        with open_image(path) as image:
            return to_rgb(image)
    except Exception as error:  # Pillow raises whatever its decoders raise
        raise DataError(f"{path} cannot be read as an image: {reason(error)}") from None


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """Open an image file without decoding it.

    Raises:
        ValueError: If it is of a format that is not read.
        OSError: If it is none.
    """
    # Libraries let Pillow fill up truncated images with grey, for the whole process.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    image = Image.open(source)
    if image.format not in FORMATS:
        image.close()
        raise ValueError(f"its content is {image.format}; {', '.join(sorted(FORMATS))} are read")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image as 8-bit RGB, the right way up.

    Raises:
        ValueError: If its pixels have no known range.
    """
    image.load()  # before it is turned: Pillow turns a TIFF when it loads it
    image = eight_bits(image if orientation_of(image) == 1 else ImageOps.exif_transpose(image))
    return image.convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """An image of 8 bits a channel: of 16 the high ones.

    Raises:
        ValueError: If its pixels are floats, or above 16 bits.
    """
    if image.mode == "F":
        raise ValueError("its pixels are 32-bit floats, whose range is not known; save it with 8 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise ValueError(f"its pixels go from {values.min()} to {values.max()}, beyond 16 bits; save it with 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none."""
    return int(image.getexif().get(_ORIENTATION, 1) or 1)


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image once it is upright; a turned TIFF is decoded for it."""
    turned = orientation_of(image) >= 5
    if turned and image.format == "TIFF":  # Pillow turns it, some versions when it is opened, all when it is loaded
        image.load()
        return image.size
    width, height = image.size
    return (height, width) if turned else (width, height)


def require_regular(path: Path) -> None:
    """Raise a ValueError where a path is a FIFO, a device or a folder, and an OSError where nothing is there."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a regular file")


def is_plain(image: Image.Image) -> bool:
    """Whether OpenCV, and so ultralytics, decodes an opened image as `to_rgb` does."""
    if image.mode.startswith(("I", "F")):
        return False
    return image.format in ("JPEG", "MPO") or orientation_of(image) == 1


def reason(error: Exception) -> str:
    """What an image library says is wrong, in one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()).replace(" <_io.BytesIO object", "").partition(" at 0x")[0]
    if "cannot identify image file" in text:
        text = "no image of a known format"
    return (text or type(error).__name__)[:120]
