"""Charts of numbers that trackers draw themselves: what W&B draws of which table, and thinner tables."""

from dataclasses import dataclass
from typing import Any

from watchme.core.interfaces import Table
from watchme.core.spacing import evenly

_POINTS = 101
_CURVES, _MATRIX = "wandb/area-under-curve/v0", "wandb/confusion_matrix/v1"


@dataclass(frozen=True)
class ChartSpec:
    """How W&B draws a table: its name of the drawing, the title, and the drawing's fields by column."""

    drawing: str
    title: str
    fields: dict[str, str]

    @property
    def texts(self) -> dict[str, str]:
        """Title and, of curves, names of the axes."""
        axes = {f"{axis}-axis-title": self.fields[axis] for axis in ("x", "y") if axis in self.fields}
        return {"title": self.title, **axes}


# Name below `charts/<split>/` -> how it is drawn.
CHARTS = {
    "precision_recall": ChartSpec(
        _CURVES, "Precision over recall", {"x": "recall", "y": "precision", "class": "class"}
    ),
    "f1": ChartSpec(_CURVES, "F1 over confidence", {"x": "confidence", "y": "f1", "class": "class"}),
    "cmc": ChartSpec(_CURVES, "Share of queries with a match by rank", {"x": "rank", "y": "share", "class": "class"}),
    "confusion": ChartSpec(
        _MATRIX, "Confusion", {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"}
    ),
}


def by_class(table: Table) -> dict[str, list[tuple[Any, ...]]]:
    """Class -> its rows of a table with `chart="precision_recall"`, at most 101 of each, evenly."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in table.rows:
        found.setdefault(str(row[3]), []).append(row)
    return {name: [rows[place] for place in evenly(len(rows), _POINTS)] for name, rows in found.items()}
