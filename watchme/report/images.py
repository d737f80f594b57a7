"""Images of a run, scaled down and embedded as data URLs."""

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from watchme.core.interfaces import Picture
from watchme.report.run_reader import read_pictures
from watchme.tracking.draw_boxes import with_boxes

# Base64 adds a third: the page stays below 3 MB.
_BUDGET_BYTES = 2_000_000
_WIDTHS = (1100, 800, 560, 380, 240)
_MOST = 32
_WIDE = 1.8
# What readers want to see first, by the last part of the name; the rest follows in the order that it was shown.
_FIRST = ("detections", "search_worst", "predictions", "labels", "ranked", "cmc", "pr_curve", "confusion_matrix")


@dataclass(frozen=True)
class Figure:
    """An image as the page shows it."""

    title: str  # name, e.g. `test/ranked`
    source: str  # `data:` URL
    caption: str = ""  # epoch and caption
    # `wide` for a plot, `sheet` for a contact sheet of small images, which scaling up would blur, else empty
    kind: str = ""


def gallery(folder: Path) -> list[Figure]:
    """The last images that a run has shown under each name."""
    chosen = sorted(_latest(read_pictures(folder)), key=_rank)[:_MOST]
    encoded: list[bytes] = []
    for width in _WIDTHS:
        encoded = [_encode(folder, picture, width) for picture in chosen]
        if sum(map(len, encoded)) <= _BUDGET_BYTES:
            break
    return [_figure(picture, data) for picture, data in zip(chosen, encoded, strict=True) if data]


def data_url(data: bytes) -> str:
    """PNG or JPEG bytes as a `data:` URL."""
    kind = "png" if data[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _rank(picture: dict[str, Any]) -> tuple[int, bool]:
    split, _, last = str(picture["name"]).rpartition("/")
    return _FIRST.index(last) if last in _FIRST else len(_FIRST), split != "test"


def _latest(pictures: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each name the pictures of its last epoch, or of the run's end."""
    pictures = list(pictures)

    def when(picture: dict[str, Any]) -> float:
        return float("inf") if picture["epoch"] is None else float(picture["epoch"])

    last: dict[str, float] = {}
    for picture in pictures:
        last[picture["name"]] = max(when(picture), last.get(picture["name"], -1.0))
    return [picture for picture in pictures if when(picture) == last[picture["name"]]]


def _encode(folder: Path, entry: dict[str, Any], width: int) -> bytes:
    # JSON has null for the score of a person that was missed.
    boxes = tuple((*box[:4], math.nan if box[4] is None else box[4], box[5]) for box in entry["boxes"])
    try:
        data = with_boxes(Picture(entry["name"], folder / entry["file"], boxes=boxes), width)
        if data[:4] == b"\x89PNG" and len(data) > 120_000:
            data = _as_jpeg(data)
    # ImportError: ultralytics, once imported, has Pillow look for a HEIF reader. The rest of the page needs no picture.
    except (OSError, ValueError, ImportError):
        return b""
    return data


def _as_jpeg(data: bytes) -> bytes:
    """A photograph that was saved as PNG; a drawing keeps its sharp lines if it is no larger."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    flat.save(file, "JPEG", quality=85)
    return min(data, file.getvalue(), key=len)


def _figure(entry: dict[str, Any], data: bytes) -> Figure:
    with Image.open(io.BytesIO(data)) as image:
        wide = image.width > _WIDE * image.height and image.width > 500
    kind = "sheet" if entry["name"].startswith(("offenders/", "people/")) else "wide" if wide else ""
    epoch = "" if entry["epoch"] is None else f"· epoch {entry['epoch']}"
    return Figure(entry["name"], data_url(data), f"{epoch} {entry['caption'] or ''}".strip(), kind)
