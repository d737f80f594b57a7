"""Figures of matplotlib in one style, written as PNG."""

from pathlib import Path
from typing import Any, Literal


def new_axes(
    width: float, height: float, *, grid: Literal["both", "y"] | None = None, framed: bool = False, dpi: int = 120
) -> tuple[Any, Any]:
    """A figure of so many inches and its axes: a grid behind what is drawn, a frame on two sides or on all four."""
    # Only here, since matplotlib is slow to import; and a Figure of its own leaves pyplot's state alone.
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=dpi, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    if grid is not None:
        axes.grid(axis=grid, color="#e4e4e4", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(framed)
    return figure, axes


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG; its folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
