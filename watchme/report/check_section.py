"""What a check of a dataset has found, in full for mode=check, and in short form for a training."""

import html

from watchme.core.formatting import duration
from watchme.report.html_parts import card, table
from watchme.report.run_reader import Run, read_tables

# Tables that this section shows; names of their files.
TABLES = ("check_findings", "check_splits")
_PILLS = {"error": "failed", "warning": "interrupted", "note": "soft"}


def section(run: Run) -> str:
    """The table of problems, the worst first, and what the splits hold; empty where nothing was checked."""
    found = run.manifest.get("check")
    if not isinstance(found, dict):
        return ""
    rows = [
        [
            f'<b>{html.escape(str(one["problem"]))}</b><br><span class="soft">{html.escape(str(one["why"]))}</span>',
            f'<span class="pill {_PILLS.get(one["severity"], "")}">{html.escape(str(one["severity"]))}</span>',
            f"{one['count']:,}",
            f'<span class="mono">{html.escape(str(one["example"]))}</span>',
        ]
        for one in found.get("findings", [])
    ]
    if not rows:
        body = '<p class="notice good">Nothing was found.</p>'
    else:
        body = table(["problem", "severity", "count", "example"], rows, 2, 3)
    if found.get("short"):
        return body if rows else ""
    more = '<p class="soft">Every finding is a line of <code>issues.csv</code>.</p>' if rows else ""
    return body + more + _splits(run)


def cards(run: Run) -> str:
    """How many errors, warnings and notes there are, in how many images."""
    found = run.manifest.get("check") or {}
    verdict = {"errors": "would spoil a training", "warnings": "training goes on", "notes": "for information"}
    made = [card(name, f"{found[name]:,}", note) for name, note in verdict.items() if name in found]
    if "images" in found:
        made.append(card("images", f"{found['images']:,}"))
    return "".join([*made, card("duration", duration(run.manifest.get("timings", {}).get("total_s")))])


def _splits(run: Run) -> str:
    rows = read_tables(run.folder).get("check_splits", [])
    if len(rows) < 2:
        return ""
    head, *body = ([html.escape(cell) for cell in row] for row in rows)
    return "<h3>What the splits hold</h3>" + table([cell.replace("_", " ") for cell in head], body)
