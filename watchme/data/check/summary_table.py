"""Summary of a check: the table on the terminal, and the numbers of each split."""

from collections.abc import Sequence
from typing import Any

from watchme.core.formatting import aligned, shortened
from watchme.data.check.database import Count, Facts

_WIDTH = 110


def table_lines(counts: Sequence[Count]) -> list[str]:
    """The table of problems for a terminal; one line where nothing was found."""
    if not counts:
        return ["Nothing was found."]
    rows = [(one.kind.severity, one.kind.name, f"{one.count:,}", one.example) for one in counts]
    head = ("severity", "problem", "count", "example")
    room = max(30, _WIDTH - 6 - sum(max(len(row[column]) for row in (head, *rows)) for column in range(3)))
    return aligned([(*row[:3], shortened(row[3], room)) for row in (head, *rows)], right=(2,))


def summary(facts: Facts) -> dict[str, Any]:
    """What run.json keeps of a check: totals by severity, and each kind with its count, an example and why."""
    return {
        **facts.severities(),
        "findings": [
            {
                "severity": one.kind.severity,
                "problem": one.kind.name,
                "count": one.count,
                "example": one.example,
                "why": one.kind.why,
            }
            for one in facts.counts()
        ],
    }


def verdict(facts: Facts) -> str:
    """Why a dataset should not be trained on; empty where nothing speaks against it."""
    errors = [one for one in facts.counts() if one.kind.severity == "error"]
    if not errors:
        return ""
    lines = [f"{one.kind.name} ({one.count:,}): {one.kind.why} E.g. {one.example}" for one in errors]
    return "\n".join(["This dataset would spoil a training:", *(f"    {line}" for line in lines)])


def detection_statistics(facts: Facts) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """Columns and rows: what each split of a detection dataset holds."""
    columns = ("split", "images", "unreadable", "boxes", "images_without_boxes", "mean_boxes", "most_boxes")
    rows = facts.rows(
        "SELECT split, COUNT(*), SUM(fault <> ''), SUM(boxes), SUM(boxes = 0 AND fault = ''), "
        "ROUND(AVG(CASE WHEN fault = '' THEN boxes END), 3), MAX(boxes) FROM images GROUP BY split ORDER BY side"
    )
    return columns, tuple(rows)


def people_statistics(facts: Facts) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """Columns and rows: what each split of a re-ID dataset holds."""
    columns = ("split", "images", "unreadable", "identities", "cameras", "distractors", "images_per_identity")
    rows = facts.rows(
        "SELECT split, COUNT(*), SUM(fault <> ''), COUNT(DISTINCT CASE WHEN pid > 0 THEN pid END), "
        "COUNT(DISTINCT cam), SUM(pid = 0), "
        "ROUND(1.0 * SUM(pid > 0) / NULLIF(COUNT(DISTINCT CASE WHEN pid > 0 THEN pid END), 0), 2) "
        "FROM images GROUP BY split ORDER BY MIN(id)"
    )
    return columns, tuple(rows)
