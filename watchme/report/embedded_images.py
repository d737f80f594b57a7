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
_PLOT = ("Plots", "")  # one of each, under its caption, which says what it shows
# Kinds of pictures by the last part of their name, in the order of the page: what goes wrong comes first.
_BOXES = "Green: found; red: found where nobody is; yellow: missed."
_ROWS = "Green: the right person; red: another one."
_KINDS = {
    "detections": ("Images with the greatest loss of F1", _BOXES),
    "decomposition": ("Where the search loses", ""),
    "search_worst": ("Worst searches", f"{_ROWS} Orange: whom the detector lost."),
    "hardest": ("Worst queries of the hardest identities", _ROWS),
    "search_best": ("Best searches", f"{_ROWS} Orange: whom the detector lost."),
    "tsne": ("Map of embeddings", ""),
    **dict.fromkeys(("similarities", "cmc"), _PLOT),
    "ranked": ("Ranked results of queries, evenly over the list", _ROWS),
    **dict.fromkeys(("pr_curve", "f1_curve", "precision_curve", "recall_curve"), _PLOT),
    **dict.fromkeys(("confusion_matrix", "confusion_matrix_normalized", "predictions", "labels"), _PLOT),
}
_FOLDERS = {"people": "Those seen most often first", "frames": "Frames with boxes"}
_SHEETS = ("offenders/", "people/")
_LARGE = ("tsne", "decomposition", "similarities")
_MISTAKES = ("detections", "search_worst", "hardest", "decomposition", "tsne")


@dataclass(frozen=True)
class Figure:
    """An image as the page shows it."""

    title: str  # name, e.g. `test/ranked`
    source: str  # `data:` URL
    caption: str = ""  # epoch and caption
    # `wide` and `large` for plots, `sheet` for a contact sheet of small images, which scaling up would blur, else empty
    kind: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures of one name."""

    title: str
    note: str
    figures: list[Figure]
    open: bool  # else folded
    section: str  # `mistakes` of the model, `people` that were found, or empty


def gallery(folder: Path) -> list[Group]:
    """The last images that a run has shown under each name, gathered by name."""
    found = _latest(read_pictures(folder))
    worst = {str(picture["name"]).partition("/")[0] for picture in found if picture["name"].endswith("/detections")}
    # Of ultralytics' first batch nothing need be shown where there are the worst images, with truth.
    superseded = {f"{split}/{name}" for split in worst for name in ("predictions", "labels")}
    chosen = sorted((one for one in found if one["name"] not in superseded), key=_rank)[:_MOST]
    encoded: list[bytes] = []
    for width in _WIDTHS:
        encoded = [_encode(folder, picture, width) for picture in chosen]
        if sum(map(len, encoded)) <= _BUDGET_BYTES:
            break
    figures: dict[str, list[Figure]] = {}
    for picture, data in zip(chosen, encoded, strict=True):
        if data:
            figures.setdefault(picture["name"], []).append(_figure(picture, data))
    return _groups(figures)


def _groups(figures: dict[str, list[Figure]]) -> list[Group]:
    """Pictures of one name under one heading; plots of which there is one each together, named by their kind."""
    groups: dict[str, Group] = {}
    for name, found in figures.items():
        split, _, last = name.rpartition("/")
        known, note = _KINDS.get(last, (name, ""))
        section = "mistakes" if last in _MISTAKES else "people" if split == "people" else ""
        title = f"{known}, {split}" if last in _KINDS else _FOLDERS.get(split, name)
        if split == "offenders":
            title = last.replace("_", " ").capitalize()
        if len(found) == 1 and not section and split not in _FOLDERS and not name.startswith(_SHEETS):
            title, note = f"Plots, {split}" if last in _KINDS else "Plots", ""
        # Those of the validation split are folded where there are others of the test split.
        open_ = split != "val" or not any(other.startswith("test/") and other.endswith(f"/{last}") for other in figures)
        group = groups.setdefault(title, Group(title, note, [], open_, section))
        group.figures.extend(found)
    return list(groups.values())


def _data_url(data: bytes) -> str:
    """PNG or JPEG bytes as a `data:` URL."""
    kind = "png" if data[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _rank(picture: dict[str, Any]) -> tuple[bool, int]:
    split, _, last = str(picture["name"]).rpartition("/")
    return split in ("val", "train"), list(_KINDS).index(last) if last in _KINDS else len(_KINDS)


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
    large = entry["name"].rpartition("/")[2] in _LARGE
    kind = "sheet" if entry["name"].startswith(_SHEETS) else "large" if large else "wide" if wide else ""
    parts = ["" if entry["epoch"] is None else f"epoch {entry['epoch']}", entry["caption"] or ""]
    return Figure(entry["name"], _data_url(data), " · ".join(filter(None, parts)), kind)
