"""Plots of a dataset as PNG: classes, box sizes, images of an identity; each from a few sums of the database."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from watchme.core.figure import new_axes, save
from watchme.core.formatting import shortened
from watchme.data.check.database import Facts, Shown

COLOURS = ("#1f5fa8", "#d9822b", "#3b9c5a", "#8a5fb0", "#b03a48", "#5f6b76")
_BINS = 40
# Boxes from which on plots have their finest bins; fewer would leave most bins empty.
_MANY, _SOME = 5_000, 1_000
_MOST_BARS = 24
_TAIL = 0.995


def plot_detection(facts: Facts, names: Sequence[str], folder: Path) -> list[Shown]:
    """Class balance, box sizes, box centres, people per image."""
    if not facts.scalar("SELECT COUNT(*) FROM boxes"):
        return []
    per_image = _by_split(facts, "SELECT split, boxes, COUNT(*) FROM images WHERE fault = '' GROUP BY split, boxes")
    total = facts.scalar("SELECT COUNT(*) FROM boxes")
    # A chart with one bar says less than a sentence.
    classes = "all classes" if len(names) > 1 else f"all {total:,} boxes are of one class, {names[0]}"
    return [
        *([_classes(facts, names, folder / "class_balance.png")] if len(names) > 1 else []),
        _box_sizes(facts, folder / "box_sizes.png"),
        _centres(facts, folder / "box_centres.png"),
        _counted(
            per_image,
            "boxes_per_image",
            "boxes in an image",
            "images",
            folder,
            f"Boxes per image, by split ({classes})",
        ),
    ]


def plot_people(facts: Facts, folder: Path) -> list[Shown]:
    """Images of an identity, of an identity by a camera, cameras of an identity, image sizes."""
    if not facts.scalar("SELECT COUNT(*) FROM images WHERE pid > 0"):
        return []
    inner = "SELECT split, COUNT(*) AS n, COUNT(DISTINCT cam) AS cams FROM images WHERE pid > 0 GROUP BY split, pid"
    numbers = {
        "images_per_identity": ("n", inner, "images", "identities", "Images of an identity, by split"),
        "images_per_identity_and_camera": (
            "n",
            inner + ", cam",
            "images",
            "pairs",
            "Images of an identity by one camera, by split",
        ),
        "cameras_per_identity": ("cams", inner, "cameras", "identities", "Cameras that see an identity, by split"),
    }
    shown = []
    for name, (column, source, across, up, caption) in numbers.items():
        counted = _by_split(facts, f"SELECT split, {column}, COUNT(*) FROM ({source}) GROUP BY split, {column}")
        shown.append(_counted(counted, name, across, up, folder, caption))
    return [*shown, *_image_sizes(facts, folder / "image_sizes.png")]


def _by_split(facts: Facts, question: str) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for split, value, count in facts.rows(question):
        found.setdefault(split, {})[value] = count
    order = [split for (split,) in facts.rows("SELECT split FROM images GROUP BY split ORDER BY MIN(id)")]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def _classes(facts: Facts, names: Sequence[str], path: Path) -> Shown:
    rows = list(
        facts.rows(
            "SELECT split, class, COUNT(*) FROM boxes JOIN images ON images.id = boxes.image GROUP BY split, class"
        )
    )
    totals: dict[int, int] = {}
    for _, class_id, count in rows:
        totals[class_id] = totals.get(class_id, 0) + count
    chosen = sorted(totals, key=lambda class_id: (-totals[class_id], class_id))[:_MOST_BARS]
    figure, axes = _axes(height=1.6 + 0.26 * len(chosen))
    splits = _by_split(facts, "SELECT split, boxes, 1 FROM images GROUP BY split")
    left = np.zeros(len(chosen))
    for number, split in enumerate(splits):
        counts = {class_id: count for name, class_id, count in rows if name == split}
        widths = np.array([counts.get(class_id, 0) for class_id in chosen])
        axes.barh(range(len(chosen)), widths, left=left, color=COLOURS[number % len(COLOURS)], label=split, height=0.7)
        left += widths
    for place, class_id in enumerate(chosen):
        axes.text(left[place], place, f" {totals[class_id]:,}", va="center", fontsize=9)
    axes.set_yticks(range(len(chosen)), [shortened(names[class_id], 22) for class_id in chosen])
    axes.invert_yaxis()
    axes.set_ylim(len(chosen) - 0.3, -0.7)
    axes.set_xlim(0, 1.12 * left.max())
    axes.grid(visible=False, axis="y")
    _finish(figure, axes, "boxes", "", path, legend=len(splits) > 1)
    more = f"; the {_MOST_BARS} most frequent of {len(totals)}" if len(totals) > _MOST_BARS else ""
    return Shown("check/class_balance", path, f"Boxes of each class{more}")


def _box_sizes(facts: Facts, path: Path) -> Shown:
    edges = np.geomspace(0.005, 1.0, _bins(facts, 40) + 1)
    sums: dict[str, npt.NDArray[np.int64]] = {}
    for split, chunk in _chunks(facts, "w, h"):
        sides = np.clip(np.sqrt(np.clip(chunk[:, 0] * chunk[:, 1], 0, 1)), edges[0], edges[-1])
        sums[split] = sums.get(split, 0) + np.histogram(sides, edges)[0]
    figure, axes = _axes()
    for number, (split, counts) in enumerate(sums.items()):
        shares = counts / counts.sum()
        axes.stairs(shares, edges, color=COLOURS[number % len(COLOURS)], label=split, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xticks([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0], ["1 %", "2 %", "5 %", "10 %", "20 %", "50 %", "100 %"])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    _finish(figure, axes, "side of a box: root of its share of the image", "share of boxes", path, legend=len(sums) > 1)
    return Shown("check/box_sizes", path, "Box sizes, by split")


def _centres(facts: Facts, path: Path) -> Shown:
    edges = np.linspace(0, 1, _bins(facts, 48) + 1)
    counts = np.zeros((len(edges) - 1, len(edges) - 1))
    for _, chunk in _chunks(facts, "x, y"):
        inside = np.clip(chunk, 0, 1)
        counts += np.histogram2d(inside[:, 1], inside[:, 0], (edges, edges))[0]
    figure, axes = _axes(width=5.2, height=4.2)
    shown = axes.imshow(counts, extent=(0, 1, 1, 0), cmap="viridis", interpolation="nearest")
    bar = figure.colorbar(shown, ax=axes, shrink=0.85)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    bar.set_label("boxes")
    axes.grid(visible=False)
    _finish(figure, axes, "share of the width", "share of the height", path, legend=False)
    return Shown("check/box_centres", path, "Centres of boxes in the image")


def _bins(facts: Facts, most: int) -> int:
    boxes = facts.scalar("SELECT COUNT(*) FROM boxes")
    return most if boxes >= _MANY else most // 2 if boxes >= _SOME else most // 3


def _chunks(facts: Facts, columns: str) -> Any:
    cursor = facts.db.execute(
        f"SELECT split, {columns} FROM images JOIN boxes ON images.id = boxes.image ORDER BY images.side"
    )
    while rows := cursor.fetchmany(10_000):
        for split in dict.fromkeys(row[0] for row in rows):
            yield split, np.array([row[1:] for row in rows if row[0] == split], dtype=float)


def _counted(
    counts: Mapping[str, Mapping[int, int]], name: str, across: str, up: str, folder: Path, caption: str
) -> Shown:
    """Bars of how often each number occurs; wide ranges are put into bins, and a long tail into the last."""
    path = folder / f"{name}.png"
    values = np.array([value for split in counts.values() for value in split])
    weights = np.array([count for split in counts.values() for count in split.values()])
    order = np.argsort(values)
    reached = np.searchsorted(np.cumsum(weights[order]), _TAIL * weights.sum())
    low, high = int(values.min()), int(values[order][min(reached, len(order) - 1)])
    step = max(1, math.ceil((high - low + 1) / _BINS))
    edges = np.arange(low, high + step + 1, step) - 0.5
    figure, axes = _axes()
    width = step * 0.84 / len(counts)
    for number, (split, found) in enumerate(counts.items()):
        inside = np.clip(list(found), low, edges[-1] - 0.5)
        bars = np.histogram(inside, edges, weights=list(found.values()))[0]
        left = edges[:-1] + 0.08 * step + (number + 0.5) * width
        axes.bar(left, bars, width, color=COLOURS[number % len(COLOURS)], label=split)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlim(edges[0] - 0.2 * step, edges[-1] + 0.2 * step)
    _finish(figure, axes, across, up, path, legend=len(counts) > 1)
    tail = f"; the last bar holds up to {values.max()}" if values.max() > edges[-1] else ""
    return Shown(f"check/{name}", path, caption + tail)


def _image_sizes(facts: Facts, path: Path) -> list[Shown]:
    rows = list(
        facts.rows(
            "SELECT width, height, COUNT(*) FROM images WHERE fault = '' GROUP BY width, height "
            "ORDER BY COUNT(*) DESC LIMIT 2000"
        )
    )
    if not rows:
        return []
    figure, axes = _axes(width=5.2, height=4.2)
    widths, heights, counts = (np.array(column) for column in zip(*rows, strict=True))
    sizes = 20 + 180 * np.sqrt(counts / counts.max())
    axes.scatter(widths, heights, sizes, color=COLOURS[0], alpha=0.45, edgecolors="none")
    axes.set_xlim(0, 1.15 * widths.max())
    axes.set_ylim(0, 1.15 * heights.max())
    _finish(figure, axes, "width, pixels", "height, pixels", path, legend=False)
    width, height, count = rows[0]
    return [Shown("check/image_sizes", path, f"Image sizes; the most frequent is {width} x {height}, {count} images")]


def _axes(width: float = 6.4, height: float = 3.6) -> tuple[Any, Any]:
    return new_axes(width, height, grid="both", dpi=110)


def _finish(figure: Any, axes: Any, across: str, up: str, path: Path, *, legend: bool) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    if legend:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=6, frameon=False, fontsize=9)
    save(figure, path)
