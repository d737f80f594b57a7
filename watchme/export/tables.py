"""A `Table` as text for the terminal and as Markdown."""

from watchme.core.interfaces import Table


def text_table(table: Table) -> list[str]:
    """The lines of a table for a terminal, numbers aligned to the right."""
    cells = [list(table.columns), *([_shown(value) for value in row] for row in table.rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(table.columns))]
    right = [
        all(isinstance(row[index], (int, float)) or row[index] is None for row in table.rows)
        for index in range(len(table.columns))
    ]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


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
