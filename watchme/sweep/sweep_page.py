"""report/index.html of a sweep: one page that explains a study."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from watchme.core.formatting import duration, number
from watchme.io.files import replace_text
from watchme.io.run_lookup import SWEEP_REPORT
from watchme.report.rendering import render_page
from watchme.sweep.best_experiment import training_command
from watchme.sweep.parameter_advice import advise
from watchme.sweep.plan import Plan
from watchme.sweep.trial_states import (
    best_of,
    counts,
    duration_s,
    failed,
    folder_of,
    ranked,
    setting,
    state_name,
    values_of,
)

_FEW_TRIALS = 30
_MAGNITUDES = 20
_STATE_CLASSES = {"complete": "finished", "lost": "interrupted", "waiting": "soft"}


def write_page(plan: Plan, study: Study) -> Path:
    """Write the page."""
    trials = study.get_trials(deepcopy=False)
    front = {trial.number for trial in study.best_trials} if len(plan.objectives) > 1 else set()
    done = sum(counts(trial) and trial.state.is_finished() for trial in trials)
    parameters = list(dict.fromkeys(name for trial in trials for name in trial.params))
    text = render_page(
        "sweep.jinja",
        title=f"Study {plan.study_name}",
        meta=f"{plan.typed.model.name} on {plan.typed.dataset.name}",
        folder=plan.folder,
        status="finished" if done >= plan.n_trials else _unfinished(trials),
        failures=_failures(plan, trials),
        cards=_cards(plan, trials, done),
        best=_best(plan, trials),
        advice=advise(trials, plan.directions),
        few=len(trials) if len(trials) < _FEW_TRIALS else None,
        data=_plot_data(plan, trials, parameters, front),
        columns=[*plan.objectives, "epochs", "time", *parameters],
        rows=_rows(plan, trials, parameters, front),
        settings=_settings(plan, parameters),
    )
    path = plan.folder / SWEEP_REPORT
    replace_text(path, text)
    return path


def _unfinished(trials: Sequence[FrozenTrial]) -> str:
    """Status of a sweep with trials to go, whose page is written when a process leaves it: others may still work."""
    return "running" if any(trial.state == TrialState.RUNNING for trial in trials) else "interrupted"


def _cards(plan: Plan, trials: Sequence[FrozenTrial], done: int) -> list[tuple[str, str, str]]:
    states = Counter(state_name(trial) for trial in trials)
    best = best_of(trials, plan.directions)
    cards = []
    if best is not None:
        for name, value in zip(plan.objectives, best.values, strict=True):
            cards.append((name, number(value), f"trial {best.number}"))
    others = ", ".join(f"{count} {state}" for state, count in states.most_common() if state != "complete")
    cards.append(("trials", f"{done} of {plan.n_trials}", others))
    epochs = sum(trial.last_step or 0 for trial in trials)
    if plan.epochs and epochs:
        # Of those alone that are done: lost and running trials would make it more than all of them.
        finished = sum(trial.last_step or 0 for trial in trials if counts(trial) and trial.state.is_finished())
        share = finished / (plan.epochs * max(1, done))
        cards.append(
            ("epochs", str(epochs), f"{100 * share:.0f}% of {done} whole {'trial' if done == 1 else 'trials'}")
        )
    cards.append(("time in trials", duration(sum(duration_s(trial) or 0.0 for trial in trials)), ""))
    return cards


def _failures(plan: Plan, trials: Sequence[FrozenTrial]) -> dict[str, list[tuple[int, str | None]]]:
    """The first line of each reason for which trials failed -> number and report of these trials."""
    found: dict[str, list[tuple[int, str | None]]] = {}
    for trial in trials:
        if failed(trial) and trial.user_attrs.get("reason"):
            reason = str(trial.user_attrs["reason"]).splitlines()[0][:300]
            found.setdefault(reason, []).append((trial.number, _link(plan, trial)))
    return found


def _best(plan: Plan, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
    best = best_of(trials, plan.directions)
    if best is None:
        return None
    return {
        "number": best.number,
        "link": _link(plan, best),
        "command": training_command(plan),
    }


def _rows(
    plan: Plan, trials: Sequence[FrozenTrial], parameters: Sequence[str], front: set[int]
) -> list[dict[str, Any]]:
    rows = []
    for trial in ranked(trials, plan.directions):
        state = state_name(trial)
        rows.append(
            {
                "number": trial.number,
                "link": _link(plan, trial),
                "on_front": trial.number in front,
                "state": state,
                "state_class": _STATE_CLASSES.get(state, state),
                "reason": str(trial.user_attrs.get("reason", "")),
                "cells": [
                    *map(number, values_of(trial, len(plan.objectives))),
                    number(trial.last_step),
                    duration(duration_s(trial)),
                    *(setting(trial.params[name]) if name in trial.params else number(None) for name in parameters),
                ],
            }
        )
    return rows


def _plot_data(plan: Plan, trials: Sequence[FrozenTrial], parameters: Sequence[str], front: set[int]) -> dict[str, Any]:
    """What `templates/sweep.js` draws: all trials with their objectives, pruned ones with their last value."""
    best = best_of(trials, plan.directions)
    distributions = {name: value for trial in trials for name, value in trial.distributions.items()}
    return {
        "objectives": list(plan.objectives),
        "maximize": plan.directions[0] == "maximize",
        "best": sorted(front or ({best.number} if best is not None else set())),
        "parameters": list(parameters),
        "log": [name for name, value in distributions.items() if _is_logarithmic(value)],
        "choices": [name for name, value in distributions.items() if isinstance(value, CategoricalDistribution)],
        "trials": [
            {
                "number": trial.number,
                "state": state_name(trial),
                "values": [_finite(value) for value in values_of(trial, len(plan.objectives))],
                # The plots have no null, which may be a choice.
                "params": {name: "null" if value is None else value for name, value in trial.params.items()},
                "curve": [
                    [step, value] for step, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)
                ],
                "link": _link(plan, trial),
                "reason": str(trial.user_attrs.get("reason", "")).partition("\n")[0],
            }
            for trial in trials
        ],
    }


def _is_logarithmic(distribution: BaseDistribution) -> bool:
    """Whether values are drawn over their logarithm: as they are searched, or choices that are magnitudes apart."""
    if not isinstance(distribution, CategoricalDistribution):
        return bool(getattr(distribution, "log", False))
    numbers = [value for value in distribution.choices if isinstance(value, (int, float)) and value > 0]
    return len(numbers) == len(distribution.choices) and max(numbers) >= _MAGNITUDES * min(numbers)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _settings(plan: Plan, parameters: Sequence[str]) -> dict[str, str]:
    settings = plan.settings
    return {
        "sampler": _options(plan.sampler, settings.sampler_options),
        "pruner": _options(settings.pruner, settings.pruner_options),
        "objectives": ", ".join(f"{n} ({d})" for n, d in zip(plan.objectives, plan.directions, strict=True)),
        "slots": str(settings.n_jobs),
        "storage": plan.storage,
        "fixed": " ".join(plan.space.fixed.values()) or "nothing",
        "searched": " ".join(dict.fromkeys([*plan.space.distributions, *parameters])) or "nothing",
    }


def _link(plan: Plan, trial: FrozenTrial) -> str | None:
    """URL of a trial's report, or of its folder if it has no report; None if it has none on this machine."""
    folder = folder_of(trial, plan.folder)
    if folder is None:
        return None
    target = folder / "report.html" if (folder / "report.html").is_file() else folder
    return quote(os.fsencode(os.path.relpath(target, plan.folder / "report")))


def _options(name: str, options: dict[str, object]) -> str:
    return f"{name} {json.dumps(options)}" if options else name
