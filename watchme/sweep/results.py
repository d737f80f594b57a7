"""The results of a sweep: leaderboard.csv, experiment/best.yaml, report/, and the closing lines on the console."""

import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from optuna import Study
from optuna.trial import FrozenTrial

from watchme.core.formatting import relative
from watchme.sweep.best_experiment import training_command, write_experiment
from watchme.sweep.leaderboard import write_leaderboard
from watchme.sweep.plan import Plan
from watchme.sweep.sweep_dir import record
from watchme.sweep.trial_states import best_of, folder_of, measured_names, setting

log = logging.getLogger(__name__)


def write_results(plan: Plan, study: Study) -> None:
    """Write the files for the trials so far, with the objectives under the names that were measured."""
    trials = study.get_trials(deepcopy=False)
    plan = replace(plan, objectives=measured_names(plan.objectives, trials))
    record(plan.folder, plan.study_name, plan.storage, plan.objectives)
    write_leaderboard(plan.folder / "leaderboard.csv", trials, plan.objectives, plan.directions)
    best = best_of(trials, plan.directions)
    if best is not None:
        write_experiment(plan, best)
    if plan.settings.report and trials:
        try:
            from watchme.sweep.sweep_page import write_page

            write_page(plan, study)
        except OSError as error:  # a full disk
            log.error("The report could not be written (%s); leaderboard.csv and the study hold every trial.", error)
        except Exception:  # days of trials must not end in a traceback because of a page
            log.exception("The report could not be drawn; leaderboard.csv and the study hold every trial.")


def closing(plan: Plan, trials: Sequence[FrozenTrial], best: FrozenTrial) -> list[str]:
    """The closing lines of a sweep; the last is its folder."""
    shown = relative(plan.folder)
    folder = folder_of(best, plan.folder)
    lines = [f"  best trial       {best.number}" + (f" in {relative(folder)}" if folder is not None else "")]
    measured = measured_names(plan.objectives, trials)
    rows = [(name, f"{value:.4f}") for name, value in zip(measured, best.values, strict=True)]
    rows += [(name, setting(value, digits=None)) for name, value in best.params.items()]
    lines += [f"  {name:<{max(16, *map(len, measured))}} {value}" for name, value in rows]
    lines.append("Review:")
    if plan.settings.report:
        lines.append(f"  {shown}/report/index.html")
    lines.append(f"  {shown}/leaderboard.csv")
    if (database := dashboard_argument(plan.storage)) is not None:
        lines.append(f"  uvx optuna-dashboard {shlex.quote(database)}")
    lines.append("Next:")
    lines.append(f"  {training_command(plan)}")
    lines.append(shown)
    return lines


def dashboard_argument(storage: str) -> str | None:
    """What `optuna-dashboard` opens a study by; None for a server, whose password is not known here."""
    for prefix in ("sqlite:///", "journal:"):
        if storage.startswith(prefix):
            path = relative(Path(storage.removeprefix(prefix)))
            return f"sqlite:///{path}" if prefix == "sqlite:///" else path
    return None


def why_failed(plan: Plan, trials: Sequence[FrozenTrial], failures: Sequence[FrozenTrial]) -> str:
    """The message of a sweep without a complete trial, or with `max_failures` failed ones."""
    if not failures:
        return f"The sweep {plan.study_name} has no result: {len(trials)} trials, none of them complete."
    reasons = Counter(str(trial.user_attrs.get("reason", "")).splitlines()[0][:200] for trial in failures)
    limit = plan.settings.max_failures
    complete = len(trials) - len(failures)
    if limit is not None and len(failures) >= limit and complete:
        head = f"{len(failures)} trials of {plan.study_name} failed (hydra.sweeper.max_failures={limit})."
    else:
        head = f"All {len(failures)} trials of {plan.study_name} failed."
    lines = [f"    {count} x {reason}" for reason, count in reasons.most_common(5)]
    last = max(failures, key=lambda trial: trial.number)
    folder = folder_of(last, plan.folder)
    if folder is not None:
        lines.append(f"    The traceback of the last is in {relative(folder / 'traceback.txt')}.")
    return "\n".join([head, *lines])
