"""The numbers behind the curves and the confusion matrix of an evaluation, for trackers that draw them themselves."""

from typing import Any

from watchme.core.interfaces import Table

_EVERY = 10  # of ultralytics' 1000 confidences


def chart_tables(found: Any, split: str, confidence: float) -> list[Table]:
    """Tables with a `chart`.

    Args:
        found: ultralytics' DetMetrics of an evaluation with its confusion matrix.
        split: train, val or test.
        confidence: From which on the confusion matrix counts a box.

    Returns:
        `<split>/pr` at 101 confidences from 0 to 1, and `<split>/confusion`; without boxes the latter alone.
    """
    tables = []
    rows: list[tuple[Any, ...]] = []
    for position, number in enumerate(found.ap_class_index):
        points = list(zip(found.box.px, found.box.p_curve[position], found.box.r_curve[position], strict=True))
        name, boxes = found.names[int(number)], int(found.nt_per_class[int(number)])
        for at, precision, recall in [*points[::_EVERY], points[-1]]:
            rows.append((round(float(at), 4), round(float(precision), 4), round(float(recall), 4), name, boxes))
    if rows:
        columns = ("confidence", "precision", "recall", "class", "boxes")
        tables.append(Table(f"{split}/pr", columns, tuple(rows), chart="precision_recall"))
    names = [*found.names.values(), f"nothing (confidence >= {confidence})"]
    matrix = found.confusion_matrix.matrix  # (predicted, true)
    counts = tuple(
        (actual, predicted, int(matrix[row][column]))
        for column, actual in enumerate(names)
        for row, predicted in enumerate(names)
        if (row, column) != (len(names) - 1, len(names) - 1)
    )
    tables.append(Table(f"{split}/confusion", ("actual", "predicted", "count"), counts, chart="confusion"))
    return tables
