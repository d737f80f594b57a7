"""What is left after a sweep: leaderboard.csv, experiment/best.yaml, report/ and the closing lines."""

import logging
import shlex
from collections import Counter
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from watchme.run.summary import relative
from watchme.sweep import best_experiment as experiment
from watchme.sweep import leaderboard
from watchme.sweep.plan import Plan
from watchme.sweep.progress import best_of

log = logging.getLogger(__name__)


def write(plan: Plan, trials: Sequence[FrozenTrial]) -> None:
    """Write everything that the trials so far give."""
    leaderboard.write(plan.folder / "leaderboard.csv", trials, plan.objectives, plan.directions)
    best = best_of(trials, plan.directions)
    if best is not None:
        experiment.write(plan, best)
    if plan.settings.report and trials:
        try:
            from watchme.sweep import study_plots as pictures
            from watchme.sweep import sweep_page as page

            page.write(plan, trials, pictures.draw(plan, trials))
        except Exception:  # days of trials must not end in a traceback because a picture cannot be drawn
            log.exception("The report could not be drawn; leaderboard.csv and study hold everything.")


def closing(plan: Plan, trials: Sequence[FrozenTrial], best: FrozenTrial) -> list[str]:
    """The lines at the end of a sweep; the last is its folder."""
    shown = relative(plan.folder)
    lines = [f"  best trial       {best.number} in {shown}/{best.number}"]
    lines += [f"  {name:<16} {value:.4f}" for name, value in zip(plan.objectives, best.values, strict=True)]
    lines += [f"  {name:<16} {value}" for name, value in best.params.items()]
    lines.append("Review:")
    if plan.settings.report:
        lines.append(f"  {shown}/report/index.html")
    lines.append(f"  {shown}/leaderboard.csv")
    lines.append("Next:")
    lines.append(f"  python train.py --config-dir {shlex.quote(shown)} experiment=best")
    lines.append(shown)
    return lines


def why_failed(plan: Plan, trials: Sequence[FrozenTrial], failures: Sequence[FrozenTrial]) -> str:
    """The message of a sweep that came to nothing, or broke off."""
    if not failures:
        return f"The sweep {plan.study_name} came to no result: {len(trials)} trials, none of them complete."
    reasons = Counter(str(trial.user_attrs.get("reason", "")).splitlines()[0][:200] for trial in failures)
    limit = plan.settings.max_failures
    complete = len(trials) - len(failures)
    if limit is not None and len(failures) >= limit and complete:
        head = f"{len(failures)} trials of {plan.study_name} failed (hydra.sweeper.max_failures={limit})."
    else:
        head = f"All {len(failures)} trials of {plan.study_name} failed."
    lines = [f"    {count} x {reason}" for reason, count in reasons.most_common(5)]
    last = max(failures, key=lambda trial: trial.number)
    where = relative(plan.folder / str(last.number) / "traceback.txt")
    return "\n".join([head, *lines, f"    The traceback of the last is in {where}."])
