"""What a trial of a study counts as, its values and settings as they are shown, and the ranking of trials."""

import math
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from watchme.config.overrides import shown_value

_NAMES = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}
_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)
# User attributes of a trial.
LOST = "lost"
FOLDER = "folder"
MEASURED = "measured"


def state_name(trial: FrozenTrial) -> str:
    """running, complete, pruned, failed, waiting or lost."""
    return LOST if trial.user_attrs.get(LOST) else _NAMES[trial.state]


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial uses up a part of the budget: one that runs, or that has ended and was not lost."""
    ended = trial.state.is_finished() and not trial.user_attrs.get(LOST)
    return bool(trial.state == TrialState.RUNNING or ended)


def failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed, and was not lost."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get(LOST)


def has_result(trial: FrozenTrial) -> bool:
    """Whether a trial is complete or pruned."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def values_of(trial: FrozenTrial, count: int) -> list[float | None]:
    """The `count` objectives of a trial; for one that is not complete, the last value that it reported."""
    if trial.state == TrialState.COMPLETE and trial.values:
        return [*trial.values]
    last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
    return [last, *[None] * (count - 1)]


def setting(value: object, digits: int | None = 4) -> str:
    """A parameter's value as text, with so many digits (None: all); null, true and false as they are typed."""
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    return shown_value(value)


def measured_names(objectives: Sequence[str], trials: Sequence[FrozenTrial]) -> list[str]:
    """The names under which trials measured the objectives; the wanted ones while no trial has measured any.

    Trials with a result come first: one that measured something else has failed.
    """
    results_first = sorted(trials, key=has_result, reverse=True)
    found = (trial.user_attrs[MEASURED] for trial in results_first if MEASURED in trial.user_attrs)
    return list(next(found, objectives))


def duration_s(trial: FrozenTrial) -> float | None:
    """How long a trial took in seconds; None for one that has not ended."""
    return trial.duration.total_seconds() if trial.duration is not None else None


def folder_of(trial: FrozenTrial, sweep_dir: Path) -> Path | None:
    """The run folder of a trial; None if it has none, or if it is on another machine."""
    # Until 2026-11 it was not stored, and was always the number.
    path = Path(trial.user_attrs.get(FOLDER, sweep_dir / str(trial.number)))
    return path if path.is_dir() else None


def complete_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The complete trials, in order."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]


def best_of(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> FrozenTrial | None:
    """The best complete trial; by the first objective where there are several."""
    sign = 1.0 if directions[0] == "maximize" else -1.0
    return max(complete_trials(trials), key=lambda trial: sign * trial.values[0], default=None)


def ranked(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> list[FrozenTrial]:
    """Complete trials by their first objective, then pruned ones by how far they came, then the rest."""
    sign = -1.0 if directions[0] == "maximize" else 1.0

    def rank(trial: FrozenTrial) -> tuple[int, float, int]:
        value = trial.values[0] if trial.values and trial.state == TrialState.COMPLETE else math.nan
        return (
            _ORDER.index(trial.state),
            -float(trial.last_step or 0) if math.isnan(value) else sign * value,
            trial.number,
        )

    return sorted(trials, key=rank)
