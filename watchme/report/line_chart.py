"""Line charts of metrics over epochs, as inline SVG. `templates/index.js` draws the same for comparisons."""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence

from watchme.core.metric_names import SPLITS

Points = Sequence[tuple[int, float]]
WIDTH, HEIGHT = 400, 206
LEFT, RIGHT, TOP, BOTTOM = 44, 392, 8, 182
# The validation curve is what one looks for, so it has the first colour.
_COLOURS = {"val": 0, "train": 1, "test": 2}
_MOST_POINTS = 400
_DOTS_UP_TO = 40


def group(series: Mapping[str, Points], objective: str) -> dict[str, dict[str, Points]]:
    """Gather what belongs into one chart: `train/loss` and `val/loss`; the objective's chart comes first.

    Args:
        series: Points by canonical name.
        objective: Canonical name of the objective.

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
        if "val" in labels and not title.endswith("loss"):
            return 1, natural(title)
        if title.endswith("loss"):
            return 2, natural(title)
        return 3 if set(labels) & set(SPLITS) else 4, natural(title)

    return {title: dict(sorted(charts[title].items(), reverse=True)) for title in sorted(charts, key=rank)}


def line_chart(title: str, curves: Mapping[str, Points], best: int | None = None, axis: str = "epoch") -> str:
    """One chart as a `<figure>`, with its points for `templates/hover.js`.

    Args:
        title: Shown above.
        curves: Label -> points (epoch, value), in order of epochs.
        best: Epoch that is marked with a dotted line.
        axis: What the horizontal axis counts.
    """
    curves = {label: thin(points) for label, points in curves.items() if points}
    epochs = [epoch for points in curves.values() for epoch, _ in points]
    values = [value for points in curves.values() for _, value in points]
    if not values:
        return ""
    from_, to = min(epochs), max(epochs)
    ticks = nice_ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)

    def x(epoch: float) -> float:
        return LEFT + (epoch - from_) / ((to - from_) or 1) * (RIGHT - LEFT)

    def y(value: float) -> float:
        return BOTTOM - (value - low) / ((high - low) or 1) * (BOTTOM - TOP)

    parts = []
    for tick in ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for tick in epoch_ticks(from_, to):
        parts.append(f'<text x="{x(tick):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{tick}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    if best is not None and from_ <= best <= to:
        at = f"{x(best):.1f}"
        parts.append(
            f'<line class="best" x1="{at}" x2="{at}" y1="{TOP}" y2="{BOTTOM}"><title>best epoch</title></line>'
        )
    data, legend = [], []
    for index, (label, points) in enumerate(curves.items()):
        colour = _COLOURS.get(label, index)
        stroke = f'style="stroke:var(--c{colour})"'
        path = "L".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in points)
        parts.append(f'<path class="line" {stroke} d="M{path}"/>')
        if len(points) <= _DOTS_UP_TO:
            fill = f'style="fill:var(--c{colour})"'
            dots = (f'<circle cx="{x(epoch):.1f}" cy="{y(value):.1f}" r="2.2"/>' for epoch, value in points)
            parts.append(f"<g {fill}>{''.join(dots)}</g>")
        data.append({"label": label, "colour": colour, "points": [[e, float(f"{v:.6g}")] for e, v in points]})
        legend.append(f'<span><i style="background:var(--c{colour})"></i>{html.escape(label)}</span>')
    parts.append(f'<line class="cursor" y1="{TOP}" y2="{BOTTOM}"/>')
    points_of = {"axis": axis, "width": WIDTH, "left": LEFT, "right": RIGHT, "from": from_, "to": to, "series": data}
    shown = html.escape(title)
    return (
        f'<figure><h3>{shown}</h3><div class="legend">{"".join(legend)}</div>'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{shown} over {axis}" '
        f"data-chart='{html.escape(json.dumps(points_of), quote=True)}'>{''.join(parts)}</svg></figure>"
    )


def natural(text: str) -> list[str | int]:
    """A sort key by which rank5 stands before rank10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers that span `low` to `high`."""
    if high <= low:
        pad = abs(low) * 0.1
        low, high = low - pad, high + (pad or 1.0)  # a metric that is 0 throughout stands on the axis
    raw = (high - low) / (most - 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def epoch_ticks(first: int, last: int, most: int = 8) -> list[int]:
    """Whole epochs for the axis, multiples of a round number."""
    step = 1
    for step in (factor * 10**power for power in range(7) for factor in (1, 2, 5)):
        if (last - first) / step <= most:
            break
    return list(range(-(-first // step) * step, last + 1, step))


def short(value: float) -> str:
    """A tick's label: no more digits than it needs."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4f}".rstrip("0").rstrip(".") if value else "0"


def thin(points: Points, most: int = _MOST_POINTS) -> Points:
    """At most so many points, evenly chosen, the last among them."""
    if len(points) <= most:
        return points
    chosen = sorted({round(index * (len(points) - 1) / (most - 1)) for index in range(most)})
    return [points[index] for index in chosen]
