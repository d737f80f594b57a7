"""leaderboard.csv: every trial, the best first."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from watchme.io.files import replace_text
from watchme.sweep.trial_states import FOLDER, duration_s, folder_of, ranked, setting, state_name, values_of


def write_leaderboard(
    path: Path, trials: Sequence[FrozenTrial], objectives: Sequence[str], directions: Sequence[str]
) -> None:
    """Write the table atomically, as several processes of a sweep may write it.

    A pruned trial shows its last value of the first objective.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "trial", "state", *objectives, "epochs", "seconds", "folder", *names, "reason"])
    for rank, trial in enumerate(ranked(trials, directions), 1):
        seconds, folder = duration_s(trial), folder_of(trial, path.parent)
        writer.writerow(  # csv writes None as an empty cell
            [
                rank if trial.state == TrialState.COMPLETE else None,
                trial.number,
                state_name(trial),
                *values_of(trial, len(objectives)),
                trial.last_step,
                None if seconds is None else round(seconds, 1),
                trial.user_attrs.get(FOLDER, "") if folder is None else os.path.relpath(folder, path.parent),
                *(setting(trial.params[name], digits=None) if name in trial.params else None for name in names),
                str(trial.user_attrs.get("reason", "")).split("\n")[0],
            ]
        )
    replace_text(path, text.getvalue())
