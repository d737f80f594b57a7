"""An index page of all runs and sweeps in a folder, at any depth: sorted, filtered, compared side by side."""

import hashlib
import logging
import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from watchme.core.formatting import UNDEFINED, duration, number
from watchme.core.metric_names import higher_is_better, is_better
from watchme.io.files import replace_text
from watchme.io.run_lookup import SWEEP_REPORT
from watchme.report.charts import rounded
from watchme.report.glossary import meaning
from watchme.report.rendering import render_page
from watchme.report.run_page import REPORT, as_text, write_report
from watchme.report.run_reader import Run, find_runs

log = logging.getLogger(__name__)

INDEX = "index.html"
_MOST_POINTS = 150
# Modes that measure no objective: an export repeats the value of the training.
_UNMEASURED = ("check", "export", "predict", "find", "embed")
# Keys that do not change what a training comes to, the seed apart.
_NO_INFLUENCE = ("train.seed", "train.resume", "tracker.", "trial", "output_root", "export.", "check.")


@dataclass(frozen=True)
class Sweep:
    """The runs of one study in one folder."""

    folder: Path
    study: str
    runs: tuple[Run, ...]

    @property
    def best(self) -> Run | None:
        """The run with the best objective among those that finished, if any has one; of equals the first trial."""
        chosen: Run | None = None
        trials = sorted(self.runs, key=lambda run: int((run.config.get("trial") or {}).get("number", 0)))
        for run in (one for one in trials if one.status == "finished"):
            best = chosen.objective_value if chosen else None
            value = run.objective_value
            if value is not None and is_better(run.objective, value, math.nan if best is None else best):
                chosen = run
        return chosen


def write_index(root: Path) -> Path:
    """Write `index.html` into a folder of run folders, at any depth, and the reports of runs that lack one.

    Raises:
        OSError: If the page cannot be written.
    """
    runs = find_runs(root)
    for run in runs:
        _refresh(run)
    page = root / INDEX
    replace_text(page, render(root, runs))
    return page


def render(root: Path, runs: list[Run], *, served: bool = False) -> str:
    """The index page; a served one asks its server for changes."""
    now = datetime.now().astimezone().strftime("%d %B %Y, %H:%M").lstrip("0")
    return render_page(
        "index.jinja",
        title=f"Runs in {root.resolve().name}",
        meta=f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} · {now}",
        folder=root.resolve(),
        sweeps=[_sweep(root, sweep) for sweep in find_sweeps(root, runs)],
        data=run_data(root, runs),
        meanings=_meanings(runs),
        served=served,
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
    """Write a report that is missing or older than the run's manifest, e.g. of a run that was killed.

    A run whose files are damaged is listed without a report: the others must not go without their index.
    """
    page = run.folder / REPORT
    manifest = (run.folder / "run.json").stat().st_mtime
    try:
        if run.status != "running" and (not page.exists() or page.stat().st_mtime < manifest):
            write_report(run.folder)
    except OSError:  # a read-only folder is listed without it
        return
    except Exception as error:
        log.warning("No report of %s: %s: %s", run.folder, type(error).__name__, error)


def _sweep(root: Path, sweep: Sweep) -> dict[str, Any]:
    best = sweep.best
    statuses = [run.status for run in sweep.runs]
    return {
        "study": sweep.study,
        "folder": _relative(root, sweep.folder),
        "link": _link(root, sweep.folder / SWEEP_REPORT),
        "counts": [len(statuses), *(statuses.count(status) for status in ("finished", "pruned", "failed"))],
        "best": UNDEFINED if best is None else f"{number(best.objective_value)} ({best.objective})",
        "best_link": None if best is None else _link(root, best.folder / REPORT),
    }


def run_data(root: Path, runs: list[Run]) -> list[dict[str, Any]]:
    """What `templates/index.js` shows of each run."""
    configs = [as_text(run.config) for run in runs]
    # What is the same everywhere cannot differ between two runs; leaving it out keeps the page small.
    names = sorted({name for config in configs for name in config})
    varied = [name for name in names if len({config.get(name) for config in configs}) > 1]
    known = {run.folder.resolve() for run in runs}
    checked = _checked(runs, configs)
    return [
        _values(root, run)
        | {
            "parent": _parent(root, run, known, checked),
            "twins": _without_seed(config, run),
            "config": {name: config[name] for name in varied if name in config},
        }
        for run, config in zip(runs, configs, strict=True)
    ]


def _values(root: Path, run: Run) -> dict[str, Any]:
    """What is shown of a run by itself."""
    trial = run.config.get("trial") or {}
    measured = run.mode not in _UNMEASURED
    seconds = run.manifest.get("timings", {}).get("total_s")
    return {
        "title": run.title,
        "mode": run.mode,
        "folder": _relative(root, run.folder),
        "link": _link(root, run.folder / REPORT),
        "status": run.status,
        "study": trial.get("study"),
        "sweep": _link(root, run.folder.parent / SWEEP_REPORT) if trial else None,
        "objective": run.objective if measured else "",
        "dataset": run.dataset,
        "ranking": " ".join(run.comparable),
        "higher": higher_is_better(run.objective),
        "value": run.objective_value if measured else None,
        "last": run.last_value if run.status in ("interrupted", "killed", "running") else None,
        "reason": _reason(run),
        "seed": run.config.get("train", {}).get("seed"),
        "tags": (run.config.get("tracker") or {}).get("tags") or [],
        "best": run.summary.get("best_epoch"),
        "epochs": run.summary.get("epochs", run.lines[-1]["epoch"] if run.lines else None),
        "seconds": seconds,
        "duration": duration(seconds),
        "started": str(run.manifest.get("started", "")),
        "commit": str((run.manifest.get("git") or {}).get("commit", ""))[:8],
        "metrics": {name: float(f"{value:.6g}") for name, value in run.metrics.items()},
        "lower": [name for name in run.metrics if not higher_is_better(name)],
        "series": {name: rounded(points, _MOST_POINTS) for name, points in run.series.items()},
    }


def _meanings(runs: Iterable[Run]) -> dict[str, str]:
    """What the metrics of all runs mean, of those that are known."""
    names = {name for run in runs for name in (*run.metrics, *run.series)}
    return {name: text for name in sorted(names) if (text := meaning(name))}


def _parent(root: Path, run: Run, known: Collection[Path], checked: Mapping[Path, Path]) -> str | None:
    """What a run is listed under: its sweep, the training that its weights are from, or that its check was for."""
    if run.config.get("trial"):
        return _relative(root, run.folder.parent)
    if run.folder in checked:
        return _relative(root, checked[run.folder])
    origin = run.origin
    return _relative(root.resolve(), origin) if origin and origin != run.folder and origin in known else None


def _checked(runs: Iterable[Run], configs: Iterable[Mapping[str, str]]) -> dict[Path, Path]:
    """Folder of a check -> the first training on the same data after it, or else the last one before it."""

    data = (sorted(item for item in config.items() if item[0].startswith("dataset.")) for config in configs)
    pairs = sorted(zip(runs, data, strict=True), key=lambda pair: str(pair[0].manifest.get("started", "")))
    found: dict[Path, Path] = {}
    for place, (check, wanted) in enumerate(pairs):
        if check.mode == "check":
            order = [*pairs[place + 1 :], *reversed(pairs[:place])]
            trainings = ((run, other) for run, other in order if run.mode == "train" and not run.config.get("trial"))
            same = (run for run, other in trainings if other == wanted)
            if (training := next(same, None)) is not None:
                found[check.folder] = training.folder
    return found


def _reason(run: Run) -> str:
    """Why a run failed or stopped, in one line."""
    error = str(run.manifest.get("error") or "").partition("\n")[0]
    return (error or str((run.manifest.get("stopped") or {}).get("reason", "")))[:200]


def _without_seed(config: Mapping[str, str], run: Run) -> str:
    """A key that runs share which differ in their seed alone; their results show how much chance matters."""
    chosen = {name: value for name, value in config.items() if not name.startswith(_NO_INFLUENCE)}
    return hashlib.sha256(repr((sorted(chosen.items()), run.comparable)).encode()).hexdigest()[:12]


def _relative(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _link(root: Path, path: Path) -> str | None:
    """Relative URL of a file; None where it is missing."""
    return quote(os.fsencode(_relative(root, path))) if path.is_file() else None
