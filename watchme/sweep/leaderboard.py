"""leaderboard.csv: every trial, the best first."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from watchme.sweep.progress import state_of

_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)


def ranked(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> list[FrozenTrial]:
    """Complete trials by their first objective, then pruned ones by how far they came, then the rest."""
    sign = -1.0 if directions[0] == "maximize" else 1.0

    def rank(trial: FrozenTrial) -> tuple[int, float, float]:
        value = trial.values[0] if trial.values and trial.state == TrialState.COMPLETE else math.nan
        last = trial.last_step if trial.last_step is not None else 0
        return (
            _ORDER.index(trial.state),
            sign * value if not math.isnan(value) else -float(last),
            float(trial.number),
        )

    return sorted(trials, key=rank)


def write(path: Path, trials: Sequence[FrozenTrial], objectives: Sequence[str], directions: Sequence[str]) -> None:
    """Write the table, whole or not at all.

    Args:
        path: The file.
        trials: All trials.
        objectives: Canonical names; a pruned trial shows its last value of the first.
        directions: One an objective.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    head = ["rank", "trial", "state", *objectives, "epochs", "seconds", "folder", *names, "reason"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for rank, trial in enumerate(ranked(trials, directions), 1):
        writer.writerow(
            [
                rank if trial.state == TrialState.COMPLETE else "",
                trial.number,
                state_of(trial),
                *values(trial, len(objectives)),
                trial.last_step if trial.last_step is not None else "",
                round(seconds, 1) if (seconds := duration_s(trial)) is not None else "",
                trial.number,
                *(trial.params.get(name, "") for name in names),
                str(trial.user_attrs.get("reason", "")).split("\n")[0],
            ]
        )
    replace_text(path, text.getvalue())


def values(trial: FrozenTrial, count: int) -> list[float | str]:
    """A trial's objectives; of a trial without, the last value that it reported."""
    if trial.state == TrialState.COMPLETE and trial.values:
        return [*trial.values]
    last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else ""
    return [last, *[""] * (count - 1)]


def duration_s(trial: FrozenTrial) -> float | None:
    """How long a trial took; None for one that has not ended."""
    return trial.duration.total_seconds() if trial.duration is not None else None


def replace_text(path: Path, text: str) -> None:
    """Write a file by way of a temporary one: several processes of a sweep may write it."""
    import os

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
