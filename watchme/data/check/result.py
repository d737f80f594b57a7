"""From a dataset check to a run's result: issues.csv, tables, pictures, metrics; the same for every engine."""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from watchme.core.interfaces import Job, Picture, Result, Table
from watchme.data.check.database import ISSUES, Facts, Shown
from watchme.data.check.summary_table import summary, table_lines, verdict

log = logging.getLogger(__name__)

PICTURES = "pictures"


def report_check(
    job: Job,
    facts: Facts,
    shown: Iterable[Shown],
    statistics: tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]],
) -> Result:
    """Write issues.csv, log and emit tables and pictures, and return the result.

    `shown` are pictures below `job.folder / PICTURES`, `statistics` columns and rows of the numbers of each split. The
    result's `refused` says what would spoil a training; its metrics are `check/errors|warnings|notes`.
    """
    facts.write_issues(job.folder / ISSUES)
    job.show(Table("check/splits", *statistics))
    found = summary(facts)
    columns = ("severity", "problem", "count", "example", "why")
    rows = tuple(tuple(one[column] for column in columns) for one in found["findings"])
    job.show(Table("check/findings", columns, rows))
    for one in shown:
        job.show(Picture(one.name, one.path, one.caption))
    images = facts.scalar("SELECT COUNT(*) FROM images")
    job.record("check", {"images": images, **found})
    log.info("")
    for line in table_lines(facts.counts()):
        log.info("%s", line)
    metrics = {f"check/{name}": float(found[name]) for name in ("errors", "warnings", "notes")}
    return Result(metrics, math.nan, details={"check": {"images": images}}, refused=verdict(facts))


def report_brief_check(job: Job, found: Mapping[str, Any]) -> None:
    """Record a `summary` of the short form before a training; errors and warnings go to the log.

    Nothing is refused: the engine itself ends a training that cannot be done.
    """
    job.record("check", {"short": True, **found})
    for one in found["findings"]:
        if one["severity"] != "note":
            log.warning("Check: %s (%d): %s E.g. %s", one["problem"], one["count"], one["why"], one["example"])
