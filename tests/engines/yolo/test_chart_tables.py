"""Numbers behind curves and confusion matrix, of made-up metrics in ultralytics' form."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from watchme.engines.yolo.chart_tables import chart_tables


def metrics(classes: list[int]) -> Any:
    """Of two known classes, `classes` of which have boxes."""
    grid = np.linspace(0, 1, 1000)
    curves = (
        np.stack([grid * (position + 1) / 2 for position in range(len(classes))]) if classes else np.zeros((0, 1000))
    )
    return SimpleNamespace(
        ap_class_index=np.array(classes, int),
        names={0: "person", 1: "bag"},
        nt_per_class=np.array([40, 7]),
        box=SimpleNamespace(px=grid, p_curve=curves, r_curve=1 - curves),
        confusion_matrix=SimpleNamespace(matrix=np.array([[30, 1, 5], [2, 6, 0], [8, 0, 0]], float)),
    )


def test_precision_and_recall_at_even_confidences_from_zero_to_one() -> None:
    table = chart_tables(metrics([0, 1]), "test", 0.25)[0]
    assert (table.name, table.chart) == ("test/pr", "precision_recall")
    person = [row for row in table.rows if row[3] == "person"]
    confidences = [row[0] for row in person]
    assert len(person) == 101
    assert np.allclose(confidences, np.linspace(0, 1, 101), atol=1e-3)
    assert all(
        abs(precision - at / 2) < 1e-3 and abs(recall + at / 2 - 1) < 1e-3 for at, precision, recall, _, _ in person
    )
    assert {row[3]: row[4] for row in table.rows} == {"person": 40, "bag": 7}


def test_confusion_counts_each_pair_but_nothing_with_nothing() -> None:
    table = chart_tables(metrics([0, 1]), "test", 0.25)[1]
    counts = {(actual, predicted): count for actual, predicted, count in table.rows}
    nothing = "nothing (confidence >= 0.25)"
    assert counts["person", "person"] == 30
    assert counts["bag", "person"] == 1, "the matrix is (predicted, true)"
    assert counts[nothing, "person"] == 5, "false positives"
    assert counts["person", nothing] == 8, "misses"
    assert (nothing, nothing) not in counts


def test_without_boxes_there_is_no_curve() -> None:
    (table,) = chart_tables(metrics([]), "val", 0.25)
    assert table.chart == "confusion"
