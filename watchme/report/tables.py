"""Tables of a run as its report shows them: known ones with a title, a sentence and a fitting form, others folded."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from watchme.core.formatting import UNDEFINED, number
from watchme.report.charts import line_chart

Tables = dict[str, list[list[str]]]

_ROWS = 25
_OPEN_ROWS = 15
_FIRST_MATCH, _AP = "first_match_rank", "average_precision"
_CMC_RANKS = 20
# Shown elsewhere: the check's section, and a card.
_ELSEWHERE = ("check_findings", "check_splits", "_counts", "_cmc_curve", "profile_operators")


@dataclass(frozen=True)
class Kind:
    """How a known table is shown."""

    title: str
    note: str = ""
    open: bool = False  # shown at once, not folded
    bar: str = ""  # column whose shares get a bar
    matrix: tuple[str, str, str] | None = None  # columns that become rows, columns and cells of a square


_KINDS = {
    "per_class": Kind("By class", "Precision, recall and F1 at the confidence with the best F1."),
    "by_group": Kind(
        "Who is found and who is missed",
        "At the confidence with the best F1. A recall of few people proves little. False boxes are counted by their "
        "own size and by the people in their image.",
        open=True,
        bar="recall",
    ),
    "camera_pairs": Kind(
        "mAP by pair of cameras",
        "Queries of the camera on the left, in the images of the camera above alone, where there is less to confuse.",
        open=True,
        matrix=("query_camera", "gallery_camera", "map"),
    ),
    "hardest_identities": Kind(
        "Hardest identities",
        "mAP and rank-1 are those of the identity's queries; taken for: who is ranked first instead, and how often.",
        open=True,
    ),
    "per_query": Kind("By query, the worst first"),
    "decomposition": Kind("Where the search loses", open=True, bar="lost"),
    "by_confidence": Kind("Other thresholds of the detector's confidence", open=True),
}


@dataclass(frozen=True)
class Shown:
    """A table for the page."""

    title: str
    note: str
    file: str  # below `tables/`
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int  # rows of the file
    open: bool
    shares: Sequence[Sequence[float | None]]  # of each cell: its share for a bar or shade, if it has one
    shaded: bool  # whether shares are shades, as in a matrix
    text: Sequence[bool]  # of each column: whether it holds text rather than numbers
    order: int  # on the page


def shown_tables(tables: Tables) -> list[Shown]:
    """The tables that are not empty, those shown at once first."""
    found = []
    for name, (head, *rows) in tables.items():
        if rows and not name.endswith(_ELSEWHERE):
            table = _shown(name, head, rows)
            # Of the validation split folded, where there is the same of the test split.
            tested = name.startswith("val_") and name.replace("val_", "test_", 1) in tables
            found.append(replace(table, open=table.open and not tested))
    return sorted(found, key=lambda table: (not table.open, table.order))


def count_cards(tables: Tables) -> list[tuple[str, str, str]]:
    """How many people a detector found, of the test split if that was evaluated."""
    for split in ("test", "val"):
        rows = tables.get(f"{split}_counts", [])
        if len(rows) == 2:
            confidence, found, missed, false = rows[1]
            note = f"{missed} missed, {false} false at confidence >= {float(confidence):.3g}, the best F1"
            return [(f"people found, {split}", f"{found} of {int(found) + int(missed)}", note)]
    return []


def cmc_charts(tables: Tables) -> list[dict[str, Any]]:
    """Share of queries whose first true match is among the first k, from a table that has a row for each query.

    Where a run has measured the curve itself, it is that one: CUHK03's is of other galleries than the whole one.
    """
    charts = []
    for name, (head, *rows) in tables.items():
        if _FIRST_MATCH not in head:
            continue
        where = name.removesuffix("_per_query")
        _, *measured = tables.get(f"{where}_cmc_curve", [[]])
        shares = [(int(rank), float(share)) for rank, share in measured[:_CMC_RANKS]] or _cmc(head, rows)
        if not any(math.isnan(share) for _, share in shares):
            chart = line_chart(f"CMC, {where.replace('_', ' ')}", {name.partition("_")[0]: shares}, axis="rank")
            charts += [chart] if shares else []
    return charts


def _cmc(head: list[str], rows: list[list[str]]) -> list[tuple[int, float]]:
    """Rank and share, as rank-k counts it: a query whose person is not in its gallery has no AP, and does not count."""
    queries = [dict(zip(head, row, strict=True)) for row in rows]
    cells = [query[_FIRST_MATCH] for query in queries if query.get(_AP) != "nan"]
    # Somebody in the gallery whom the detector missed has no rank, and counts as never found.
    ranks = [float(cell) for cell in cells if cell and cell != "nan"]
    return [(k, sum(rank <= k for rank in ranks) / len(cells)) for k in range(1, _CMC_RANKS + 1)] if cells else []


def _shown(name: str, head: list[str], rows: list[list[str]]) -> Shown:
    end = next((end for end in _KINDS if name.endswith(f"_{end}")), "")
    kind = _KINDS.get(end, Kind(name.replace("_", " ").capitalize()))
    where = name.removesuffix(f"_{end}").replace("_", " ") if end else ""
    total = len(rows)
    if kind.matrix is not None:
        head, rows = _matrix(head, rows, *kind.matrix)
    else:
        rows = rows[: _OPEN_ROWS if kind.open else _ROWS]
    cells = [[cell_text(cell) for cell in row] for row in rows]
    if kind.bar:  # groups: what stands above is not repeated
        for above, row in zip(rows, cells[1:], strict=False):
            row[0] = "" if row[0] == above[0] else row[0]
    return Shown(
        title=f"{kind.title}, {where}" if where else kind.title,
        note=kind.note,
        file=f"{name}.csv",
        head=[column.replace("_", " ") for column in head],
        rows=cells,
        total=total,
        open=kind.open,
        shares=[list(_shares(head, row, kind)) for row in rows],
        shaded=kind.matrix is not None,
        text=[any(not _is_number(row[column]) for row in rows) for column in range(len(head))],
        order=list(_KINDS).index(end) if end else len(_KINDS),
    )


def _shares(head: list[str], row: list[str], kind: Kind) -> Iterator[float | None]:
    for column, cell in zip(head, row, strict=True):
        wanted = column == kind.bar or (kind.matrix is not None and column != head[0])
        # CSS ignores a width below 0, and draws the whole bar: lost_boxes may be below it.
        yield min(max(float(cell), 0.0), 1.0) if wanted and cell not in ("", "nan") else None


def _matrix(
    head: list[str], rows: list[list[str]], down: str, across: str, inside: str
) -> tuple[list[str], list[list[str]]]:
    """A table of pairs as a square: the first column names the rows."""
    places = [head.index(column) for column in (down, across, inside)]
    cells = {(row[places[0]], row[places[1]]): row[places[2]] for row in rows}
    columns = sorted({name for _, name in cells}, key=int)
    lines = sorted({name for name, _ in cells}, key=int)
    return (
        [f"{down} / {across}".replace("_camera", ""), *columns],
        [[line, *(cells.get((line, column), "nan") for column in columns)] for line in lines],
    )


def cell_text(text: str) -> str:
    """A cell of a CSV file as it is read: few digits, and a dash for what is undefined."""
    if text == "nan":
        return UNDEFINED
    return number(float(text)) if _is_number(text) and not text.lstrip("-").isdigit() and text else text


def _is_number(text: str) -> bool:
    """Whether a cell is a number, or empty as a number that there is not."""
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
