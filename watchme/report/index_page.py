"""An index page of all runs and sweeps below a folder: sorted, filtered, compared side by side."""

import html
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from watchme.core.formatting import UNDEFINED, number
from watchme.core.metric_names import higher_is_better, is_better
from watchme.report.html_parts import script_json, table, template
from watchme.report.line_chart import thin
from watchme.report.run_page import REPORT, write_report
from watchme.report.run_reader import Run, find_runs, flat

INDEX = "index.html"
SWEEP_REPORT = Path("report") / "index.html"
_MOST_POINTS = 150


@dataclass(frozen=True)
class Sweep:
    """The runs of one study in one folder."""

    folder: Path
    study: str
    runs: tuple[Run, ...]

    @property
    def best(self) -> Run | None:
        """The run with the best objective, if any has one."""
        chosen: Run | None = None
        for run in self.runs:
            best = chosen.objective_value if chosen else None
            value = run.objective_value
            if value is not None and is_better(run.objective, value, math.nan if best is None else best):
                chosen = run
        return chosen


def write_index(root: Path) -> Path:
    """Write `index.html` into a folder of run folders, and the reports of runs that lack one.

    Args:
        root: Folder below which runs are looked for, at any depth.

    Returns:
        The page's path.

    Raises:
        OSError: If the page cannot be written.
    """
    runs = find_runs(root)
    for run in runs:
        _refresh(run)
    page = root / INDEX
    temporary = page.with_name(f".{INDEX}.tmp")
    temporary.write_text(render(root, runs), encoding="utf-8")
    temporary.replace(page)
    return page


def render(root: Path, runs: list[Run]) -> str:
    """The index page."""
    now = datetime.now().astimezone().strftime("%d %B %Y, %H:%M").lstrip("0")
    return Template(template("index.html")).substitute(
        title=f"Runs in {html.escape(root.resolve().name)}",
        meta=f'{len(runs)} runs · {now} · <span class="mono">{html.escape(str(root.resolve()))}</span>',
        sweeps=_sweeps(root, runs),
        style=template("style.css"),
        data=script_json(_data(root, runs)),
        hover=template("hover.js"),
        script=template("index.js"),
    )


def find_sweeps(root: Path, runs: Iterable[Run]) -> list[Sweep]:
    """Trials gathered by study and folder, and folders that have a sweep's report."""
    found: dict[tuple[Path, str], list[Run]] = {}
    for run in runs:
        trial = run.config.get("trial")
        if trial:
            found.setdefault((run.folder.parent, str(trial.get("study", ""))), []).append(run)
    known = {folder for folder, _ in found}
    for report in root.rglob(str(SWEEP_REPORT)):
        folder = report.parent.parent
        if folder not in known:
            found[folder, folder.name] = []
    return [Sweep(folder, study, tuple(trials)) for (folder, study), trials in sorted(found.items(), reverse=True)]


def _refresh(run: Run) -> None:
    """Write a report that is missing or older than the run's manifest, e.g. of a run that was killed."""
    page = run.folder / REPORT
    manifest = (run.folder / "run.json").stat().st_mtime
    try:
        if run.status != "running" and (not page.exists() or page.stat().st_mtime < manifest):
            write_report(run.folder)
    except OSError:  # a folder that may only be read is shown without it
        return


def _sweeps(root: Path, runs: list[Run]) -> str:
    rows = []
    for sweep in find_sweeps(root, runs):
        shown = html.escape(sweep.study)
        if (sweep.folder / SWEEP_REPORT).is_file():
            shown = f'<a href="{_link(root, sweep.folder / SWEEP_REPORT)}">{shown}</a>'
        counts = {
            status: sum(run.status == status for run in sweep.runs) for status in ("finished", "pruned", "failed")
        }
        best = sweep.best
        value = UNDEFINED if best is None else f"{number(best.objective_value)} ({html.escape(best.objective)})"
        if best is not None and (best.folder / REPORT).is_file():
            value = f'<a href="{_link(root, best.folder / REPORT)}">{value}</a>'
        place = f'<div class="soft mono">{html.escape(_relative(root, sweep.folder))}</div>'
        rows.append([shown + place, str(len(sweep.runs)), *(str(count) for count in counts.values()), value])
    if not rows:
        return ""
    head = ["study", "trials", "finished", "pruned", "failed", "best"]
    return f"<section><h2>Sweeps</h2>{table(head, rows)}</section>"


def _data(root: Path, runs: list[Run]) -> list[dict[str, Any]]:
    configs = [flat(run.config) for run in runs]
    # What is the same everywhere cannot differ between two runs; leaving it out keeps the page small.
    names = sorted({name for config in configs for name in config})
    varied = [name for name in names if len({config.get(name) for config in configs}) > 1]
    return [
        {
            "title": run.title,
            "folder": _relative(root, run.folder),
            "short": run.folder.name[-13:],
            "link": _link(root, run.folder / REPORT) if (run.folder / REPORT).is_file() else None,
            "status": run.status,
            "study": (run.config.get("trial") or {}).get("study"),
            "objective": run.objective,
            "higher": higher_is_better(run.objective),
            "value": run.objective_value,
            "best": run.summary.get("best_epoch"),
            "epochs": run.summary.get("epochs", run.lines[-1]["epoch"] if run.lines else None),
            "seconds": run.manifest.get("timings", {}).get("total_s"),
            "started": str(run.manifest.get("started", "")),
            "commit": str((run.manifest.get("git") or {}).get("commit", ""))[:8],
            "metrics": {name: float(f"{value:.6g}") for name, value in run.metrics.items()},
            "series": {
                name: [[epoch, float(f"{value:.5g}")] for epoch, value in thin(points, _MOST_POINTS)]
                for name, points in run.series.items()
            },
            "config": {name: config[name] for name in varied if name in config},
        }
        for run, config in zip(runs, configs, strict=True)
    ]


def _relative(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _link(root: Path, path: Path) -> str:
    return quote(_relative(root, path))
