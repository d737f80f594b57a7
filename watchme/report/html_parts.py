"""Small pieces of HTML, and how numbers read."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any


def template(name: str) -> str:
    """Text of a file in `templates/`."""
    return (resources.files("watchme.report") / "templates" / name).read_text(encoding="utf-8")


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1, numbers_to: int | None = None
) -> str:
    """A table; cells are HTML. Columns from `numbers_from` on, and before `numbers_to`, are aligned right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        numbers = range(len(row))[numbers_from:numbers_to]
        kinds = (' class="number"' if index in numbers else ' class="wrap"' for index in range(len(row)))
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    top = f"<thead><tr>{cells('th', head)}</tr></thead>" if head else ""
    return f'<div class="card scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def card(label: str, value: str, note: str = "") -> str:
    """A small card with one value."""
    return (
        f'<div class="card"><div class="label">{html.escape(label)}</div><div class="value">{html.escape(value)}</div>'
        f'<div class="note">{html.escape(note)}</div></div>'
    )


def pairs(rows: Mapping[str, str], title: str = "") -> str:
    """A table of names and HTML values."""
    if not rows:
        return ""
    body = "".join(
        f'<tr><td class="key">{html.escape(name)}</td><td class="wrap">{value}</td></tr>'
        for name, value in rows.items()
    )
    head = f"<h3>{title}</h3>" if title else ""
    return f'<div class="card scroll">{head}<table><tbody>{body}</tbody></table></div>'


def script_json(value: Any) -> str:
    """JSON that may stand in a `<script>` element."""
    return json.dumps(value, separators=(",", ":"), default=str).replace("<", "\\u003c")
