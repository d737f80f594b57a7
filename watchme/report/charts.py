"""What the line charts show: metrics grouped into charts, and thinned points. `templates/charts.js` draws them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from watchme.core.metric_names import SAME_CAMERA, SPLITS
from watchme.core.spacing import evenly
from watchme.report.glossary import meaning

Points = Sequence[tuple[int, float]]
# The validation curve is the one that readers look for, so it has the first colour.
_COLOURS = {"val": 0, SAME_CAMERA: 0, "train": 1, "test": 2}
_MOST_POINTS = 400


def group(series: Mapping[str, Points], objective: str) -> dict[str, dict[str, Points]]:
    """Gather what belongs in one chart: `train/loss` and `val/loss`; the objective's chart comes first.

    Returns:
        Title of a chart -> label of a curve -> points.
    """
    charts: dict[str, dict[str, Points]] = {}
    for name, points in series.items():
        split, _, rest = name.partition("/")
        title, label = (rest, split) if split in SPLITS and rest else (name, name.rpartition("/")[2])
        charts.setdefault(title, {})[label] = points

    first = objective.partition("/")[2]

    def rank(title: str) -> tuple[int, list[str | int]]:
        labels = charts[title]
        if title == first:
            return 0, []
        if labels.keys() & {"val", SAME_CAMERA} and not title.endswith("loss"):
            return 1, natural(title)
        if title.endswith("loss"):
            return 2, natural(title)
        return 3 if set(labels) & set(SPLITS) else 4, natural(title)

    return {title: dict(sorted(charts[title].items(), reverse=True)) for title in sorted(charts, key=rank)}


def line_chart(
    title: str, curves: Mapping[str, Points], best: int | None = None, axis: str = "epoch"
) -> dict[str, Any]:
    """One chart as `templates/charts.js` reads it.

    `curves` maps labels to points (epoch, value) in order of epochs; empty ones are left out. The epoch `best` is
    marked with a dotted line; `axis` is what the horizontal axis counts.
    """
    series = [
        {"label": label, "colour": _COLOURS.get(label, index), "points": rounded(points, _MOST_POINTS)}
        for index, (label, points) in enumerate((label, points) for label, points in curves.items() if points)
    ]
    share = title != "lr" and not title.endswith("loss") and set(curves) <= set(SPLITS)
    share = share and all(0 <= value <= 1 for points in curves.values() for _, value in points)
    return {"title": title, "hint": meaning(title), "axis": axis, "best": best, "share": share, "series": series}


def natural(text: str) -> list[str | int]:
    """A sort key by which rank5 comes before rank10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def rounded(points: Points, most: int) -> list[tuple[int, float]]:
    """At most so many points, evenly chosen, the last among them, with six digits."""
    chosen = (points[place] for place in evenly(len(points), most))
    return [(epoch, float(f"{value:.6g}")) for epoch, value in chosen]
