"""report/pareto.png: the Pareto front of a study with several objectives. The page draws its other plots itself."""

from collections.abc import Sequence
from pathlib import Path

from optuna import Study

from watchme.core.figure import new_axes, save
from watchme.io.files import replacing
from watchme.sweep.trial_states import complete_trials

_FRONT, _DOMINATED = "#d1495b", "#a9b4bd"


def draw_pareto(study: Study, objectives: Sequence[str], path: Path) -> bool:
    """Draw the first two objectives against each other as a PNG; False while no trial is complete."""
    best = sorted(study.best_trials, key=lambda trial: trial.values[0])
    if not best:
        return False
    rest = [trial for trial in complete_trials(study.get_trials(deepcopy=False)) if trial not in best]
    figure, axes = new_axes(6.4, 4.6, grid="both")
    axes.scatter([t.values[0] for t in rest], [t.values[1] for t in rest], color=_DOMINATED, s=30, label="dominated")
    axes.plot([t.values[0] for t in best], [t.values[1] for t in best], "o-", color=_FRONT, label="Pareto front")
    for trial in best:
        axes.annotate(str(trial.number), trial.values[:2], xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"{objectives[0]} ({study.directions[0].name.lower()})")
    axes.set_ylabel(f"{objectives[1]} ({study.directions[1].name.lower()})")
    axes.legend(frameon=False, fontsize=8)
    with replacing(path) as temporary:  # several processes may draw it
        save(figure, temporary)
    return True
