"""report/index.html: one page that explains a study, with its pictures inside it."""

import base64
import html
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template
from urllib.parse import quote

from optuna.trial import FrozenTrial, TrialState

from watchme.core.formatting import duration, number
from watchme.report.html_parts import pairs, table, template
from watchme.run.summary import relative
from watchme.sweep.leaderboard import duration_s, ranked, replace_text, values
from watchme.sweep.plan import Plan
from watchme.sweep.progress import best_of, state_of
from watchme.sweep.study import counts
from watchme.sweep.study_plots import pareto_front

_NARROW = ("pareto.png",)
_PILLS = {"complete": "finished", "lost": "interrupted", "waiting": "soft"}


def write(plan: Plan, trials: Sequence[FrozenTrial], drawn: Sequence[tuple[str, str]]) -> Path:
    """Write the page.

    Args:
        plan: The sweep.
        trials: All trials.
        drawn: File name and title of each picture in `report/`.
    """
    done = sum(counts(trial) and trial.state.is_finished() for trial in trials)
    status = "finished" if done >= plan.n_trials else "running"
    sections = (
        ("Best trial", _best(plan, trials)),
        ("Pictures", _pictures(plan.folder / "report", drawn)),
        ("Trials", _table(plan, trials)),
        ("How it was searched", _how(plan)),
    )
    text = Template(template("run.html")).substitute(
        title=html.escape(f"Study {plan.study_name}"),
        meta=f"{html.escape(plan.typed.model.name)} on {html.escape(plan.typed.dataset.name)} · "
        f'<span class="mono">{html.escape(str(plan.folder))}</span>',
        status=status,
        notices=_notices(trials),
        cards=_cards(plan, trials, done),
        sections="".join(f"<section><h2>{title}</h2>{body}</section>" for title, body in sections if body),
        style=template("style.css"),
        script="",
    )
    path = plan.folder / "report" / "index.html"
    replace_text(path, text)
    return path


def _cards(plan: Plan, trials: Sequence[FrozenTrial], done: int) -> str:
    states = Counter(state_of(trial) for trial in trials)
    best = best_of(trials, plan.directions)
    cards = []
    if best is not None:
        for name, value in zip(plan.objectives, best.values, strict=True):
            cards.append((name, number(value), f"trial {best.number}"))
    told = ", ".join(f"{count} {state}" for state, count in states.most_common() if state != "complete")
    cards.append(("trials", f"{done} of {plan.n_trials}", told))
    spent = [trial.last_step or 0 for trial in trials]
    if plan.epochs and sum(spent):
        share = sum(spent) / (plan.epochs * max(1, done))
        cards.append(("epochs", str(sum(spent)), f"{100 * share:.0f}% of {done} whole trials"))
    seconds = sum(duration_s(trial) or 0.0 for trial in trials)
    cards.append(("time in trials", duration(seconds), ""))
    return "".join(
        f'<div class="card"><div class="label">{html.escape(label)}</div><div class="value">{html.escape(value)}</div>'
        f'<div class="note">{html.escape(note)}</div></div>'
        for label, value, note in cards
    )


def _notices(trials: Sequence[FrozenTrial]) -> str:
    reasons = Counter(
        str(trial.user_attrs.get("reason", "")).splitlines()[0]
        for trial in trials
        if trial.state == TrialState.FAIL and not trial.user_attrs.get("lost") and trial.user_attrs.get("reason")
    )
    return "".join(
        f'<p class="notice bad">{count} failed: {html.escape(reason[:300])}</p>' for reason, count in reasons.items()
    )


def _best(plan: Plan, trials: Sequence[FrozenTrial]) -> str:
    best = best_of(trials, plan.directions)
    if best is None:
        return '<p class="soft">No trial is complete.</p>'
    rows = {"trial": _link(plan, best.number), **{name: html.escape(_cell(v)) for name, v in best.params.items()}}
    command = f"python train.py --config-dir {relative(plan.folder)} experiment=best"
    return pairs(rows) + f'<h3 style="margin-top:16px">Train it again</h3><pre>{html.escape(command)}</pre>'


def _pictures(folder: Path, drawn: Sequence[tuple[str, str]]) -> str:
    figures = []
    for name, title in drawn:
        data = base64.b64encode((folder / name).read_bytes()).decode()
        wide = ' style="grid-column:1/-1"' if name not in _NARROW else ""
        figures.append(
            f"<figure{wide}><h3>{html.escape(title)}</h3>"
            f'<img alt="{html.escape(title)}" style="max-width:{900 if wide else 620}px;margin:0 auto" '
            f'src="data:image/png;base64,{data}"></figure>'
        )
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _table(plan: Plan, trials: Sequence[FrozenTrial]) -> str:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    front = set()
    if len(plan.directions) > 1:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        front = {trial.number for trial in pareto_front(complete, plan.directions)}
    head = ["trial", "state", *plan.objectives, "epochs", "time", *names]
    rows = []
    for trial in ranked(trials, plan.directions):
        state = state_of(trial)
        reason = str(trial.user_attrs.get("reason", ""))
        hint = f' title="{html.escape(reason, quote=True)}"' if reason else ""
        star = " *" if trial.number in front else ""
        rows.append(
            [
                _link(plan, trial.number) + star,
                f'<span class="{_PILLS.get(state, state)}"{hint}>{state}</span>',
                *(number(value) if value != "" else number(None) for value in values(trial, len(plan.objectives))),
                str(trial.last_step) if trial.last_step is not None else number(None),
                duration(duration_s(trial)),
                *(html.escape(_cell(trial.params[name])) if name in trial.params else number(None) for name in names),
            ]
        )
    note = '<p class="soft">* on the Pareto front</p>' if front else ""
    return table([html.escape(name) for name in head], rows, numbers_from=2) + note


def _how(plan: Plan) -> str:
    settings = plan.settings
    rows = {
        "sampler": _options(plan.sampler, settings.sampler_options),
        "pruner": _options(settings.pruner, settings.pruner_options),
        "objectives": ", ".join(f"{n} ({d})" for n, d in zip(plan.objectives, plan.directions, strict=True)),
        "slots": str(settings.n_jobs),
        "storage": plan.storage,
        "fixed": " ".join(plan.space.fixed) or "nothing",
        "searched": " ".join(plan.space.distributions) or "nothing",
    }
    return pairs({name: html.escape(text) for name, text in rows.items()})


def _link(plan: Plan, trial: int) -> str:
    """A trial's number, linked to its report where that lies in this folder."""
    folder = plan.folder / str(trial)
    if not folder.is_dir():
        return str(trial)
    target = folder / "report.html" if (folder / "report.html").is_file() else folder
    return f'<a href="{quote(os.path.relpath(target, plan.folder / "report"))}">{trial}</a>'


def _options(name: str, options: dict[str, object]) -> str:
    return f"{name} {json.dumps(options)}" if options else name


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
