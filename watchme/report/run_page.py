"""`report.html` of one run: a single file that explains the run without its folder."""

import contextlib
import html
import shlex
from datetime import datetime
from pathlib import Path
from string import Template

from watchme.core.formatting import duration, number
from watchme.report import check_section as findings
from watchme.report import images as pictures
from watchme.report import line_chart as charts
from watchme.report.html_parts import card, pairs, table, template
from watchme.report.run_reader import Run, flat, read_run, read_tables

REPORT = "report.html"
_ROWS = 25
_FIRST_MATCH = "first_match_rank"
_CMC_RANKS = 20
_SPLITS = ("val", "test", "train")


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, from what the folder holds.

    Returns:
        The page's path.

    Raises:
        RunFolderError: If the folder is not a run's.
    """
    page = folder / REPORT
    temporary = page.with_name(f".{REPORT}.tmp")
    temporary.write_text(render(read_run(folder)), encoding="utf-8")
    temporary.replace(page)
    return page


def render(run: Run) -> str:
    """The page of a run."""
    checks = run.config.get("mode") == "check"
    sections = (
        ("Findings", findings.section(run) if checks else ""),
        ("Results", _results(run)),
        ("Curves", _curves(run)),
        ("Pictures", pictures.gallery(run.folder)),
        ("Results in detail", _cmc(run.folder) + _tables(run.folder)),
        ("Check of the dataset", "" if checks else findings.section(run)),
        ("What ran", _what_ran(run)),
        ("Time", _time(run)),
        ("Next steps", _next_steps(run)),
    )
    return Template(template("run.html")).substitute(
        title=html.escape(run.title),
        meta=_meta(run),
        status=html.escape(run.status),
        notices=_notices(run),
        cards=_cards(run),
        sections="".join(f"<section><h2>{title}</h2>{body}</section>" for title, body in sections if body),
        style=template("style.css"),
        script=template("hover.js"),
    )


def _meta(run: Run) -> str:
    started = str(run.manifest.get("started", ""))
    with contextlib.suppress(ValueError):
        started = datetime.fromisoformat(started).strftime("%d %B %Y, %H:%M").lstrip("0")
    host = run.manifest.get("host", "")
    return (
        f'{html.escape(started)} · {html.escape(str(host))} · <span class="mono">{html.escape(str(run.folder))}</span>'
    )


def _notices(run: Run) -> str:
    found = [f'<p class="notice">Fallback: {html.escape(text)}</p>' for text in run.manifest.get("fallbacks", [])]
    if stopped := run.manifest.get("stopped"):
        text = f"Stopped after epoch {stopped.get('epoch')}: {stopped.get('reason')}"
        found.append(f'<p class="notice">{html.escape(text)}</p>')
    if error := run.manifest.get("error"):
        found.append(f'<p class="notice bad">{html.escape(str(error))}</p>')
        trace = run.folder / "traceback.txt"
        if trace.is_file():
            text = html.escape(trace.read_text(encoding="utf-8", errors="replace"))
            found.append(f"<details><summary>Traceback</summary><pre>{text}</pre></details>")
    return "".join(found)


def _cards(run: Run) -> str:
    if run.config.get("mode") == "check":
        return findings.cards(run)
    first = dict(run.series.get(run.objective, [])).get(0)
    before = f"{number(first)} before training" if first is not None else ""
    found = [(run.objective or "objective", number(run.objective_value), before)]
    if (best := run.summary.get("best_epoch")) is not None:
        found.append(("best epoch", str(best), f"of {run.summary.get('epochs', '?')}"))
    partner = run.objective.replace("val/", "test/", 1)
    if partner != run.objective and partner in run.metrics:
        found.append((partner, number(run.metrics[partner]), ""))
    found.append(("duration", duration(run.manifest.get("timings", {}).get("total_s")), ""))
    if speed := run.series.get("perf/images_per_s"):
        waits = [value for _, value in run.series.get("perf/data_wait_share", [])]
        note = f"{100 * sum(waits) / len(waits):.0f}% of the time waiting for data" if waits else ""
        found.append(("images a second", f"{sum(value for _, value in speed) / len(speed):.1f}", note))
    return "".join(card(label, value, note) for label, value, note in found)


def _results(run: Run) -> str:
    """One row a metric, one column a split; the value before training where there was an evaluation."""
    by_name: dict[str, dict[str, float]] = {}
    for name, value in run.metrics.items():
        split, _, rest = name.partition("/")
        if split in _SPLITS:
            by_name.setdefault(rest, {})[split] = value
    by_name.pop("lr", None)
    if not by_name:
        return ""
    splits = [split for split in _SPLITS if any(split in values for values in by_name.values())]
    before = {
        name.partition("/")[2]: points[0][1] for name, points in run.series.items() if points and points[0][0] == 0
    }
    head = ["metric", *splits, *(["val before training"] if before else [])]
    rows = []
    for name, values in sorted(by_name.items(), key=lambda item: (item[0].endswith("loss"), charts.natural(item[0]))):
        mark = ' <span class="changed">objective</span>' if f"val/{name}" == run.objective else ""
        row = [html.escape(name) + mark, *(number(values.get(split)) for split in splits)]
        rows.append([*row, *([number(before.get(name))] if before else [])])
    return table(head, rows)


def _curves(run: Run) -> str:
    best = run.summary.get("best_epoch")
    grouped = charts.group(run.series, run.objective)
    drawn = [charts.line_chart(title, curves, best) for title, curves in grouped.items()]
    if not any(len(points) > 1 for points in run.series.values()):
        return ""
    note = '<p class="soft">Over epochs; the dotted line is the best epoch. Point at a chart for its values.</p>'
    return f'{note}<div class="charts">{"".join(drawn)}</div>'


def _tables(folder: Path) -> str:
    found = []
    for name, rows in read_tables(folder).items():
        if len(rows) < 2 or name in findings.TABLES:
            continue
        body = [[html.escape(_cell(cell)) for cell in row] for row in rows[1 : _ROWS + 1]]
        shown = f"first {_ROWS} of {len(rows) - 1} rows" if len(rows) - 1 > _ROWS else f"{len(rows) - 1} rows"
        head = [html.escape(cell) for cell in rows[0]]
        summary = f"{html.escape(name)}: {shown} of <code>tables/{html.escape(name)}.csv</code>"
        found.append(f"<details><summary>{summary}</summary>{table(head, body)}</details>")
    return "".join(found)


def _cmc(folder: Path) -> str:
    """Share of queries whose first true match is among the first k, from a table that has a row for each query."""
    drawn = []
    for name, (head, *rows) in read_tables(folder).items():
        if _FIRST_MATCH not in head or not rows:
            continue
        cells = [row[head.index(_FIRST_MATCH)] for row in rows]
        # A query without a true match has no rank, and counts as never found.
        ranks = [float(cell) for cell in cells if cell and cell != "nan"]
        shares = [(k, sum(rank <= k for rank in ranks) / len(rows)) for k in range(1, _CMC_RANKS + 1)]
        split = name.partition("_")[0]
        drawn.append(charts.line_chart(f"CMC, {split}", {split: shares}, axis="rank"))
    note = '<p class="soft">Share of queries whose first true match is among the first so many.</p>'
    return f'{note}<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def _cell(text: str) -> str:
    try:
        return number(float(text)) if not text.lstrip("-").isdigit() else text
    except ValueError:
        return text


def _what_ran(run: Run) -> str:
    manifest = run.manifest
    choices = {group: _choice(option, run.defaults.get(group, option)) for group, option in run.choices.items()}
    groups = {part.split("=")[0].lstrip("+") for part in run.overrides if part.split("=")[0].lstrip("+") in run.choices}
    values = [part for part in run.overrides if part.split("=")[0].lstrip("+") not in groups]
    overrides = {
        key.lstrip("+"): f'<span class="changed mono">{html.escape(value)}</span>'
        for key, _, value in (part.partition("=") for part in values)
    }
    git = manifest.get("git") or {}
    commit = f"{str(git.get('commit', ''))[:12]}{' with uncommitted changes' if git.get('dirty') else ''}"
    code = {
        "command": f'<span class="mono">{html.escape(str(manifest.get("command", "")))}</span>',
        "commit": html.escape(commit) or "no git checkout",
        "seed": html.escape(str(manifest.get("seed"))),
        "Python": html.escape(str(manifest.get("python", ""))),
        "packages": html.escape(
            ", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items())
        ),
    }
    hardware = manifest.get("hardware", {})
    machine = {
        "host": html.escape(str(manifest.get("host", ""))),
        "CPU": html.escape(f"{hardware.get('cpu', '')}, {hardware.get('cores', '?')} cores"),
        "GPUs": html.escape(", ".join(hardware.get("gpus", [])) or "none"),
        "system": html.escape(str(hardware.get("platform", ""))),
    }
    data = {name: html.escape(value) for name, value in flat(manifest.get("dataset") or {}).items()}
    whole = html.escape("\n".join(f"{key}: {value}" for key, value in flat(run.config).items()))
    cards = [
        pairs(choices, "Choices of the config groups"),
        pairs(overrides, "Values set on the command line"),
        pairs({"name": html.escape(run.dataset), **data}, "Data"),
        pairs(code, "Code"),
        pairs(machine, "Hardware"),
    ]
    return (
        f'<div class="two">{"".join(cards)}</div><details><summary>Whole config</summary><pre>{whole}</pre></details>'
    )


def _choice(option: str, default: str) -> str:
    if option == default:
        return html.escape(option)
    return (
        f'<span class="changed">{html.escape(option)}</span> <span class="soft">default: {html.escape(default)}</span>'
    )


def _time(run: Run) -> str:
    rows = {name: duration(value) for name, value in run.manifest.get("timings", {}).items()}
    rows = {name.removesuffix("_s").replace("_", " "): value for name, value in rows.items()}
    for name, points in run.series.items():
        if name.startswith("time/"):
            values = [value for _, value in points]
            label = name.removeprefix("time/").removesuffix("_s").replace("_", " ")
            rows[f"{label}, mean of {len(values)} epochs"] = duration(sum(values) / len(values))
    return pairs(rows)


def _next_steps(run: Run) -> str:
    commands = list(run.manifest.get("next", []))
    if run.status in ("interrupted", "killed") and (run.folder / "weights" / "last.pt").is_file():
        commands.insert(0, f"python train.py train.resume={shlex.quote(str(run.folder))}")
    if (run.manifest.get("wandb") or {}).get("mode") == "offline":
        commands.append(f"wandb sync {shlex.quote(str(run.folder / 'wandb'))}/offline-run-*")
    if url := (run.manifest.get("wandb") or {}).get("url"):
        link = f'<p>W&amp;B: <a href="{html.escape(url, quote=True)}">{html.escape(url)}</a></p>'
    else:
        link = ""
    return link + (f"<pre>{html.escape(chr(10).join(commands))}</pre>" if commands else "")
