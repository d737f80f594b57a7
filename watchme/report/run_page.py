"""`report.html` of one run: a single file that explains the run without its folder."""

import contextlib
import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from watchme.config.overrides import shown_value
from watchme.core.formatting import duration, flatten, number
from watchme.core.invocation import as_started
from watchme.core.metric_names import SAME_CAMERA
from watchme.data.check.fixes import command
from watchme.io.files import replace_text
from watchme.io.metrics_log import TIMINGS
from watchme.io.run_lookup import STUDY, SWEEP_REPORT, folder_of
from watchme.report.charts import group, line_chart, natural
from watchme.report.embedded_images import gallery
from watchme.report.glossary import meaning
from watchme.report.rendering import render_page
from watchme.report.run_reader import Run, read_run, read_tables
from watchme.report.tables import cell_text, cmc_charts, count_cards, shown_tables

REPORT = "report.html"
# What mends each loss of a person search.
_REMEDIES = {
    "missed": "a detector that misses fewer people",
    "boxes": "tighter boxes of the detector",
    "false_detections": "fewer false detections",
    "embedding": "a better re-ID model",
}
_SPLITS = ("val", SAME_CAMERA, "test", "train")
_PROFILE = "profile_operators"
Card = tuple[str, str, str]


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, from what the folder holds.

    Raises:
        RunFolderError: If the folder is not a run's.
    """
    page = folder / REPORT
    replace_text(page, render(read_run(folder)))
    return page


def render(run: Run, *, served: bool = False) -> str:
    """The page of a run; a served one reloads while the run trains."""
    tables = read_tables(run.folder)
    check = run.manifest.get("check")
    quality, speed = _curves(run)
    is_check = run.config.get("mode") == "check"
    pictures, details = gallery(run.folder), shown_tables(tables)
    return render_page(
        "run.jinja",
        title=run.title,
        meta=f"{_started(run)} · {run.manifest.get('host', '')}",
        folder=run.folder,
        run=run,
        traceback=_traceback(run),
        is_check=is_check,
        check=check if isinstance(check, dict) else None,
        mends=_mends(run, check) if isinstance(check, dict) else {},
        splits=tables.get("check_splits", []),
        cards=_check_cards(run) if is_check else [*_cards(run), *count_cards(tables)],
        results=_results(run),
        curves=quality,
        speed=speed,
        inputs=_inputs(run),
        sweep=_sweep(run),
        verdict=_verdict(run),
        served=served,
        people=[group for group in pictures if group.section == "people"],
        mistakes=[group for group in pictures if group.section == "mistakes"],
        pictures=[group for group in pictures if not group.section],
        open_tables=[table for table in details if table.open],
        tables=[table for table in details if not table.open],
        cmc=cmc_charts(tables),
        overrides=_overrides(run),
        facts=_facts(run),
        config=as_text(run.config),
        times=_times(run),
        operators=[[cell_text(cell) for cell in row] for row in tables.get(_PROFILE, [])],
        wandb_url=(run.manifest.get("wandb") or {}).get("url"),
        next_steps=_next_steps(run),
    )


def as_text(config: Any) -> dict[str, str]:
    """A config as dotted key -> text."""
    return {key: shown_value(value) for key, value in flatten(config).items()}


def _started(run: Run) -> str:
    started = str(run.manifest.get("started", ""))
    with contextlib.suppress(ValueError):
        started = datetime.fromisoformat(started).strftime("%d %B %Y, %H:%M").lstrip("0")
    return started


def _traceback(run: Run) -> str:
    file = run.folder / "traceback.txt"
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _cards(run: Run) -> list[Card]:
    took: Card = ("duration", duration(run.manifest.get("timings", {}).get("total_s")), "")
    if own := (run.summary.get("details") or {}).get("cards"):
        return [*((str(label), str(value), str(note)) for label, value, note in own), took]
    points = run.series.get(run.objective, [])
    first, value = dict(points).get(0), run.objective_value
    note = f"{number(first)} before training" if first is not None else ""
    if value is None and points:  # of a run that broke off, or still trains
        value, note = points[-1][1], f"the last value, of epoch {points[-1][0]}"
    cards = [(run.objective or "objective", number(value), note)]
    if (best := run.summary.get("best_epoch")) is not None:
        cards.append(("best epoch", str(best), f"of {run.summary.get('epochs', '?')}"))
    partner = f"test/{run.objective.partition('/')[2]}"
    if partner != run.objective and partner in run.metrics:
        cards.append((partner, number(run.metrics[partner]), ""))
    cards.append(took)
    if speed := run.series.get("perf/images_per_s"):
        waits = [value for _, value in run.series.get("perf/data_wait_share", [])]
        note = f"{100 * sum(waits) / len(waits):.0f}% of the time waiting for data" if waits else ""
        cards.append(("images a second", f"{sum(value for _, value in speed) / len(speed):.1f}", note))
    return cards


def _check_cards(run: Run) -> list[Card]:
    """How many errors, warnings and notes there are, in how many images."""
    found = run.manifest.get("check") or {}
    verdicts = {"errors": "would spoil a training", "warnings": "training goes on", "notes": "for information"}
    cards = [(name, f"{found[name]:,}", note) for name, note in verdicts.items() if name in found]
    if "images" in found:
        cards.append(("images", f"{found['images']:,}", ""))
    return [*cards, ("duration", duration(run.manifest.get("timings", {}).get("total_s")), "")]


def _mends(run: Run, check: dict[str, Any]) -> dict[str, str]:
    """Problem -> the command that mends it; none for the demo world, which is drawn again where it is damaged."""
    dataset = run.config.get("dataset") or {}
    if not dataset.get("root"):
        return {}
    names = {"root": str(dataset["root"]), "task": str(dataset.get("task", ""))}
    names |= {group: run.choices.get(group, "") for group in ("dataset", "model")}
    return {one["problem"]: command(one["problem"], run.folder, names) for one in check.get("findings", [])}


def _results(run: Run) -> dict[str, Any]:
    """One row a metric, one column a split; the value before training where there was an evaluation."""
    by_name: dict[str, dict[str, float]] = {}
    for name, value in run.metrics.items():
        split, _, rest = name.partition("/")
        if split in _SPLITS and rest != "lr":
            by_name.setdefault(rest, {})[split] = value
    splits = [split for split in _SPLITS if any(split in values for values in by_name.values())]
    before = {
        name.partition("/")[2]: points[0][1] for name, points in run.series.items() if points and points[0][0] == 0
    }
    rows = []
    chosen = run.objective.partition("/")[2]
    for name, values in sorted(
        by_name.items(), key=lambda item: (item[0] != chosen, item[0].endswith("loss"), natural(item[0]))
    ):
        row = [*(values.get(split) for split in splits), *([before.get(name)] if before else [])]
        rows.append((name, name == chosen, meaning(name), row))
    validated = SAME_CAMERA if SAME_CAMERA in splits else "val"
    return {"head": [*splits, *([f"{validated} before training"] if before else [])], "rows": rows}


def _curves(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Charts of metrics, and those of speed and time."""
    if not any(len(points) > 1 for points in run.series.values()):
        return [], []
    best = run.summary.get("best_epoch")
    charts = [line_chart(title, curves, best) for title, curves in group(run.series, run.objective).items()]
    speed = [chart for chart in charts if chart["title"].startswith(TIMINGS)]
    return [chart for chart in charts if chart not in speed], speed


def _inputs(run: Run) -> list[tuple[str, str, str]]:
    """Label, file and link of the weights that a run is of; the link leads to the report of their training."""
    inputs = []
    for label, weights in run.inputs.items():
        folder = folder_of(weights.resolve())
        page = folder / REPORT if folder else None
        link = quote(os.fsencode(os.path.relpath(page, run.folder.resolve()))) if page and page.is_file() else ""
        inputs.append((label, str(weights), link))
    return inputs


def _sweep(run: Run) -> tuple[str, str] | None:
    """Study and page of the sweep that a run is a trial of; the page is written when the sweep ends."""
    trial = run.config.get("trial")
    if not trial or not (run.folder.parent / STUDY).is_file():
        return None
    return str(trial.get("study", "")), f"../{SWEEP_REPORT.as_posix()}"


def _verdict(run: Run) -> str:
    """What a search concludes, with what would raise its result most."""
    verdict = str((run.summary.get("details") or {}).get("verdict", ""))
    losses = {name.partition("lost_")[2]: value for name, value in run.metrics.items() if "/lost_" in name}
    if not verdict or not any(losses.values()):
        return verdict
    worst = max(losses, key=lambda name: losses[name])
    return f"{verdict} Most would be gained from {_REMEDIES.get(worst, worst)}: up to {losses[worst]:.3f}."


def _overrides(run: Run) -> list[tuple[str, str]]:
    """Key and value of each override that does not choose an option of a config group, or name a trial's study."""
    pairs = [(key.lstrip("+"), value) for key, _, value in (part.partition("=") for part in run.overrides)]
    return [(key, value) for key, value in pairs if key not in run.choices and key != "trial"]


def _facts(run: Run) -> dict[str, dict[str, str]]:
    """Title -> rows about data, code and hardware."""
    manifest = run.manifest
    git, hardware = manifest.get("git") or {}, manifest.get("hardware", {})
    commit = f"{str(git.get('commit', ''))[:12]}{' with uncommitted changes' if git.get('dirty') else ''}"
    return {
        "Data": {"name": run.dataset, **as_text(manifest.get("dataset") or {})},
        "Code": {
            "command": str(manifest.get("command", "")),
            "commit": commit or "no git checkout",
            "seed": str(manifest.get("seed")),
            "Python": str(manifest.get("python", "")),
            "packages": ", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items()),
        },
        "Hardware": {
            "host": str(manifest.get("host", "")),
            "CPU": f"{hardware.get('cpu', '')}, {hardware.get('cores', '?')} cores",
            "GPUs": ", ".join(hardware.get("gpus", [])) or "none",
            "system": str(hardware.get("platform", "")),
        },
    }


def _times(run: Run) -> dict[str, str]:
    def label(name: str) -> str:
        return name.removeprefix("time/").removesuffix("_s").replace("_", " ")

    times = {label(name): duration(value) for name, value in run.manifest.get("timings", {}).items()}
    for name, points in run.series.items():
        if name.startswith("time/"):
            mean = sum(value for _, value in points) / len(points)
            times[label(name) + (f", mean of {len(points)} epochs" if len(points) > 1 else "")] = duration(mean)
    return times


def _next_steps(run: Run) -> list[str]:
    commands = list(run.manifest.get("next", []))
    if run.status in ("interrupted", "killed") and (run.folder / "weights" / "last.pt").is_file():
        commands.insert(0, as_started(f"python train.py train.resume={shlex.quote(str(run.folder))}"))
    if (run.manifest.get("wandb") or {}).get("mode") == "offline":
        commands.append(f"wandb sync {shlex.quote(str(run.folder / 'wandb'))}/offline-run-*")
    return commands
