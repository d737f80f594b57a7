"""The database of a dataset check: images, boxes and findings in SQLite, so that memory does not grow."""

import csv
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from watchme.data.check.issue_kinds import KINDS, ORDER, SEVERITIES, Kind

ISSUES = "issues.csv"
COLUMNS = ("severity", "problem", "split", "file", "line", "detail", "other")
_PAGES_KIB = 16_000
# `split` is shown; `role` is train, val, test, query or gallery. Images of different sides must not be the same.
_SCHEMA = """
CREATE TABLE images (id INTEGER PRIMARY KEY, split TEXT, dataset TEXT, role TEXT, side INTEGER, path TEXT, label TEXT,
    pid INTEGER, cam INTEGER, digest BLOB, hash INTEGER, thumb BLOB, width INTEGER, height INTEGER,
    fault TEXT DEFAULT '', boxes INTEGER DEFAULT 0);
CREATE TABLE listed (path TEXT, label TEXT, pid INTEGER, cam INTEGER);
CREATE TABLE boxes (image INTEGER, line INTEGER, class INTEGER, x REAL, y REAL, w REAL, h REAL);
CREATE TABLE findings (kind TEXT, split TEXT, file TEXT, line TEXT, detail TEXT, other TEXT, other_split TEXT,
    x REAL, y REAL, w REAL, h REAL);
"""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: str  # name of its kind, a key of `KINDS`
    split: str = ""  # where it is; `<dataset>/<split>` where several datasets are checked
    file: str = ""  # the file, as text; empty where it is of none
    line: str = ""  # line of the label file, or what else names the place; empty: all of the file
    detail: str = ""  # what exactly
    # The other file of a pair, in `other_split`. Without an `other_split` it is the image to show for `file`.
    other: str = ""
    other_split: str = ""
    box: tuple[float, float, float, float] | None = None  # (cx, cy, w, h) of the offending box, as shares of the image


@dataclass(frozen=True)
class Count:
    """How often a kind of problem was found, with one example."""

    kind: Kind
    count: int
    example: str


class Shown(NamedTuple):
    """A picture that was drawn: canonical name, file, caption."""

    name: str
    path: Path
    caption: str


class Facts:
    """The database of one check, in a file in `folder` or, for what is small, in memory; a context that removes it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file: Path | None = None
        if folder is not None:
            handle, name = tempfile.mkstemp(".sqlite", ".check-", folder)
            os.close(handle)
            self._file = Path(name)
        self.db = sqlite3.connect(self._file or ":memory:", isolation_level=None)
        # It is thrown away at the end, so nothing need survive a crash.
        self.db.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{_PAGES_KIB}; {_SCHEMA} BEGIN"
        )

    def __enter__(self) -> "Facts":
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()
        if self._file is not None:
            self._file.unlink()

    def rows(self, question: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, one after the other."""
        yield from self.db.execute(question, values)

    def scalar(self, question: str, *values: Any) -> Any:
        """The first value of a query's first row; None without one."""
        row = self.db.execute(question, values).fetchone()
        return None if row is None else row[0]

    def list_images(
        self,
        split: str,
        role: str,
        side: int,
        rows: Iterable[tuple[str, str | None, int | None, int | None]],
        dataset: str = "",
    ) -> None:
        """Put images on the list, in the order of their paths.

        Args:
            split: As it is shown.
            role: train, val, test, query or gallery.
            side: 0 for what is trained on; images of different sides must not be the same.
            rows: Path, label file, identity (0: a distractor) and camera; None where there is none.
            dataset: Its name, where identities of several are compared.
        """
        self.db.executemany("INSERT INTO listed VALUES (?, ?, ?, ?)", rows)
        self.db.execute(
            "INSERT INTO images (split, dataset, role, side, path, label, pid, cam) "
            "SELECT ?, ?, ?, ?, path, label, pid, cam FROM listed ORDER BY path",
            (split, dataset, role, side),
        )
        self.db.execute("DELETE FROM listed")

    def add(self, findings: Iterable[Finding]) -> None:
        """Keep findings. They may come from a query of this same database."""
        self.db.executemany(
            "INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((*astuple(one)[:-1], *(one.box or [None] * 4)) for one in findings),
        )

    def findings(self, kind: str, most: int) -> list[Finding]:
        """The first findings of a kind."""
        found: Any = self.rows("SELECT * FROM findings WHERE kind = ? ORDER BY rowid LIMIT ?", kind, most)
        return [Finding(*row[:7], *([] if row[7] is None else [row[7:11]])) for row in found]

    def counts(self) -> list[Count]:
        """Each kind that was found, the worst first."""
        rows = list(self.rows("SELECT kind, COUNT(*), MIN(rowid) FROM findings GROUP BY kind"))
        found = []
        for kind, count, first in sorted(rows, key=lambda row: ORDER[row[0]]):
            split, file, line, detail = self.db.execute(
                "SELECT split, file, line, detail FROM findings WHERE rowid = ?", (first,)
            ).fetchone()
            name = Path(file).name + (f":{line}" if line.isdigit() else "")
            where = "/".join(part for part in (split, name) if part)
            found.append(Count(KINDS[kind], count, ": ".join(part for part in (where, detail) if part)))
        return found

    def severities(self) -> dict[str, int]:
        """Severity -> number of findings."""
        totals = dict.fromkeys(SEVERITIES, 0)
        for count in self.counts():
            totals[count.kind.severity] += count.count
        return {f"{severity}s": count for severity, count in totals.items()}

    def write_issues(self, path: Path) -> None:
        """Write every finding as one line of a CSV file, the worst first."""
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for kind in sorted(KINDS, key=lambda name: ORDER[name]):
                rows = self.rows(
                    "SELECT split, file, line, detail, CASE WHEN other_split <> '' THEN other END FROM findings "
                    "WHERE kind = ? ORDER BY split, file, rowid",
                    kind,
                )
                writer.writerows((KINDS[kind].severity, kind, *row) for row in rows)
