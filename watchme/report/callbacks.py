"""Callbacks that keep what a run shows, and write its model card and report at the end."""

import csv
import logging
from collections.abc import Callable
from typing import Any

from watchme.config.schema import RunConfig
from watchme.core.interfaces import Callback, Picture, Result, Shown, Table
from watchme.inference.match_results import FILE
from watchme.io.files import replace_json, replacing
from watchme.run import run_dir as rundir
from watchme.run import summary as console

log = logging.getLogger(__name__)

PICTURES = "pictures.json"
TABLES = "tables"


class ReportWriter(Callback):
    """Writes pictures.json, `tables/` and report.html. It never fails a run: what it cannot write it warns about."""

    def __init__(self, config: RunConfig, record: rundir.RunFolder) -> None:
        self._config = config
        self._record = record
        self._pictures: list[dict[str, Any]] = []

    def on_resume(self, epoch: int) -> None:
        """Keep what an earlier attempt showed of epochs up to `epoch`."""
        from watchme.report.run_reader import read_pictures

        def keep() -> None:
            known = read_pictures(self._record.path)
            self._pictures = [picture for picture in known if (picture["epoch"] or 0) <= epoch]

        _warn_on_error("pictures", keep)

    def on_show(self, item: Shown) -> None:
        """List a picture; write a table to `tables/<name>.csv`."""
        if isinstance(item, Picture):
            _warn_on_error("pictures", lambda: self._list(item))
        elif isinstance(item, Table) and item.chart in (None, "cmc"):
            _warn_on_error("tables", lambda: self._write_table(item))

    def on_end(self, status: str, result: Result | None) -> None:
        """Write report.html."""
        if result is not None:
            _warn_on_error("next steps", lambda: self._record_next_steps(result))
        _warn_on_error("report", self._write_report)

    def _list(self, picture: Picture) -> None:
        path = picture.path.resolve()
        folder = self._record.path
        file = path.relative_to(folder) if path.is_relative_to(folder) else path
        entry = {
            "name": picture.name,
            "file": file.as_posix(),
            "caption": picture.caption,
            "epoch": picture.epoch,
            "boxes": picture.boxes,
        }
        # One file may show one epoch after the other; only its last content can be seen.
        kept = [known for known in self._pictures if known["file"] != entry["file"]]
        self._pictures = [*kept, entry]
        replace_json(folder / PICTURES, {"pictures": self._pictures})

    def _write_table(self, table: Table) -> None:
        path = self._record.path / TABLES / f"{table.name.replace('/', '_')}.csv"
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table.columns)
            writer.writerows(table.rows)

    def _record_next_steps(self, result: Result) -> None:
        self._record.record("next", console.next_commands(self._config, self._record.path, result))

    def _write_report(self) -> None:
        from watchme.report.run_page import write_report  # jinja2 and Pillow, which a refused run does without

        write_report(self._record.path)
        if (self._record.path / FILE).is_file():
            from watchme.report.matches_page import write_matches_page

            write_matches_page(self._record.path)


class ModelCardWriter(Callback):
    """Writes weights/MODEL_CARD.md before the trackers, which hand it over with the weights."""

    def __init__(self, config: RunConfig, record: rundir.RunFolder) -> None:
        self._config = config
        self._record = record

    def on_end(self, status: str, result: Result | None) -> None:
        """Write the card of a run that has trained weights."""
        if self._config.mode == "train" and result is not None and result.weights:
            _warn_on_error("model card", self._write)

    def _write(self) -> None:
        from watchme.run import model_card

        model_card.write(self._record.path)


def _warn_on_error(what: str, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:  # the run's result is valid without it
        log.warning("Could not write the %s: %s: %s", what, type(error).__name__, error)
        log.debug("Traceback", exc_info=True)
