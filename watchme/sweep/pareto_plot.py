"""report/pareto.png: the Pareto front of a study with several objectives. The page draws its other plots itself."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from optuna import Study

from watchme.sweep.trial_states import complete_trials

_FRONT, _DOMINATED = "#d1495b", "#a9b4bd"


def draw_pareto(study: Study, objectives: Sequence[str]) -> bytes | None:
    """A PNG of the first two objectives against each other; None while no trial is complete."""
    best = sorted(study.best_trials, key=lambda trial: trial.values[0])
    if not best:
        return None
    rest = [trial for trial in complete_trials(study.get_trials(deepcopy=False)) if trial not in best]
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8b98a3")
    axes.grid(color="#e3e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#40505c", labelsize=9)
    axes.scatter([t.values[0] for t in rest], [t.values[1] for t in rest], color=_DOMINATED, s=30, label="dominated")
    axes.plot([t.values[0] for t in best], [t.values[1] for t in best], "o-", color=_FRONT, label="Pareto front")
    for trial in best:
        axes.annotate(str(trial.number), trial.values[:2], xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"{objectives[0]} ({study.directions[0].name.lower()})")
    axes.set_ylabel(f"{objectives[1]} ({study.directions[1].name.lower()})")
    axes.legend(frameon=False, fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120, bbox_inches="tight")
    return picture.getvalue()
