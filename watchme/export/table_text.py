"""A `Table` as text for the terminal and as Markdown."""

from watchme.core.formatting import aligned
from watchme.core.interfaces import Table


def text_table(table: Table) -> list[str]:
    """The lines of a table for a terminal, numbers aligned to the right."""
    cells = [list(table.columns), *([_shown(value) for value in row] for row in table.rows)]
    numbers = {
        index
        for index in range(len(table.columns))
        if all(isinstance(row[index], (int, float)) or row[index] is None for row in table.rows)
    }
    return aligned(cells, numbers)


def markdown_table(table: Table) -> str:
    """The table in Markdown."""
    head = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join([*head, *("| " + " | ".join(map(_shown, row)) + " |" for row in table.rows)])


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:.4g}"
    return str(value)
