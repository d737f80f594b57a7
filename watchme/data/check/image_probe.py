"""What a check records of an image file: readable or not, size, a hash of its bytes and a perceptual hash."""

import functools
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from watchme.data.images import eight_bits, open_image, reason, require_regular, shown_size, to_rgb

_SIDE = 32  # the grey picture that the hash of looks is made of
_SMALL = 16  # the one that is kept, to compare two pictures place by place
# A JPEG is decoded at the least of its scales that is no smaller, which saves most of the time. Below 4 x _SIDE the
# coarse scales of libjpeg change what a picture looks like.
_DECODED = 4 * _SIDE
# Grey levels. A picture with less contrast (a wall, the night) looks like any other such picture.
_FLAT = 4.0


class ImageProbe(NamedTuple):
    """What is known of an image."""

    digest: bytes | None  # 16 bytes, equal for equal files; None for a file that cannot be opened
    hash: int | None  # 64 bits of its looks; None where it has no contrast
    thumb: bytes | None  # 16 x 16 grey levels, bytes; None where `hash` is
    width: int  # pixels, as it is shown (EXIF)
    height: int  # pixels
    fault: str  # why it cannot be read; empty if it can


def probe_image(path: Path, least_side: int = 1, *, whole: bool = False) -> ImageProbe:
    """Read an image file once, and look at it.

    It counts as unreadable below `least_side` pixels, and as a `whole` one, a JPEG, without its end marker, even if all
    of its pixels were there.
    """
    digest, width, height = None, 0, 0
    try:
        require_regular(path)
        data = path.read_bytes()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if not data:
            raise ValueError("the file is empty")
        with open_image(io.BytesIO(data)) as image:
            width, height = shown_size(image)
            if min(image.size) < least_side:
                raise ValueError(f"{width} x {height} pixels are too few")
            if image.format == "JPEG":
                if whole and not has_end(data[-64:]):
                    raise ValueError("the file is truncated")
                image.draft("L", (_DECODED, _DECODED))
            grey = eight_bits(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        pixels = np.asarray(grey, dtype=np.float32)
    except Exception as error:  # Pillow raises whatever its decoders raise
        return ImageProbe(digest, None, None, width, height, reason(error))
    if pixels.std() < _FLAT:
        return ImageProbe(digest, None, None, width, height, "")
    small = pixels.reshape(_SMALL, 2, _SMALL, 2).mean((1, 3))
    return ImageProbe(digest, hash_of(pixels), small.round().astype(np.uint8).tobytes(), width, height, "")


def has_end(tail: bytes) -> bool:
    """Whether a JPEG's end marker stands in its last bytes; cameras append a few."""
    return b"\xff\xd9" in tail


def hash_of(pixels: npt.NDArray[np.float32]) -> int:
    """64 bits of (32, 32) grey levels, signed as SQLite keeps them: signs of the low frequencies against their median.

    That is pHash (Zauner, 2010) with the 8 x 8 lowest frequencies that vary in both directions.
    """
    basis = _cosines()
    low = basis @ pixels @ basis.T
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def thumbnail(path: Path, width: int, height: int) -> Image.Image:
    """An image as people see it, no larger than a box; a grey cross in place of one that cannot be read."""
    try:
        require_regular(path)
        with open_image(path) as image:
            image.draft("RGB", (width, height))
            shown = to_rgb(image)
    except Exception:
        return _cross(width, height)
    if shown.width < width and shown.height < height:
        return ImageOps.contain(shown, (width, height), Image.Resampling.BICUBIC)
    shown.thumbnail((width, height), Image.Resampling.BICUBIC)
    return shown


def _cross(width: int, height: int) -> Image.Image:
    from PIL import ImageDraw

    image = Image.new("RGB", (width, height), (225, 225, 225))
    pen = ImageDraw.Draw(image)
    pen.line((0, 0, width, height), fill=(170, 170, 170), width=2)
    pen.line((0, height, width, 0), fill=(170, 170, 170), width=2)
    return image


@functools.cache
def _cosines() -> npt.NDArray[np.float32]:
    """(8, 32): the basis of the cosine transform for the frequencies 1 to 8."""
    places = (2 * np.arange(_SIDE) + 1) * np.pi / (2 * _SIDE)
    basis: npt.NDArray[np.float32] = np.cos(np.outer(np.arange(1, 9), places)).astype(np.float32)
    return basis
