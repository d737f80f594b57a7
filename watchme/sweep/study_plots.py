"""report/*.png: plots of a study by matplotlib and Optuna: history, learning curves, importances, slices."""

import io
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, MaxNLocator
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import plot_parallel_coordinate, plot_slice

from watchme.io.files import replace_bytes
from watchme.sweep.importance import importances, with_pruned
from watchme.sweep.plan import Plan
from watchme.sweep.trial_states import best_of, complete_trials

_BEST, _COMPLETE, _PRUNED, _FAILED, _LINE = "#d1495b", "#2a6f97", "#a9b4bd", "#e9a23b", "#1b3a4b"
_DPI = 120


def draw_study(plan: Plan, study: Study) -> list[tuple[str, str]]:
    """Draw the plots that there is data for.

    Returns:
        File name and title of each picture, in the order of the page.
    """
    folder = plan.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    trials = study.get_trials(deepcopy=False)
    objective = plan.objectives[0]
    ended = with_pruned(trials, plan.directions[0])
    wanted: list[tuple[str, str, Callable[[], Figure | None]]] = [
        ("history", "Optimisation history", lambda: history(trials, plan.objectives, plan.directions)),
        ("pareto", "Pareto front", lambda: pareto(study, plan.objectives) if len(plan.objectives) > 1 else None),
        ("curves", "Learning curves", lambda: curves(trials, objective, plan.directions)),
        ("importances", "Parameter importances", lambda: importance_bars(importances(ended))),
        ("parallel", "Parallel coordinates", lambda: by_optuna(plot_parallel_coordinate, ended, objective, 1.45)),
        ("slices", "Objective against each parameter", lambda: by_optuna(plot_slice, ended, objective, 2.6)),
    ]
    drawn = []
    for name, title, draw in wanted:
        figure = draw()
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)  # of an earlier state of the study
            continue
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=_DPI, bbox_inches="tight")
        replace_bytes(path, picture.getvalue())
        drawn.append((path.name, title))
    return drawn


def history(trials: Sequence[FrozenTrial], objectives: Sequence[str], directions: Sequence[str]) -> Figure | None:
    """The value of each trial and the best so far, one row per objective."""
    complete = complete_trials(trials)
    if not complete:
        return None
    figure, rows = _figure(len(objectives), 1, 8.0, 3.4)
    for index, (axes, name) in enumerate(zip(rows, objectives, strict=True)):
        axes.scatter(
            [t.number for t in complete],
            [t.values[index] for t in complete],
            s=34,
            color=_COMPLETE,
            zorder=3,
            label="complete",
        )
        if index == 0:
            pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.last_step is not None]
            values = [trial.intermediate_values[trial.last_step or 0] for trial in pruned]
            axes.scatter(
                [t.number for t in pruned], values, s=30, marker="x", color=_PRUNED, label="pruned, last value"
            )
        better = max if directions[index] == "maximize" else min
        best, steps = math.nan, []
        for trial in sorted(complete, key=lambda trial: trial.number):
            best = trial.values[index] if math.isnan(best) else better(best, trial.values[index])
            steps.append((trial.number, best))
        steps.append((max(trial.number for trial in trials), best))
        axes.step(*zip(*steps, strict=True), where="post", color=_BEST, linewidth=1.6, label="best so far")
        axes.set_ylabel(name)
        axes.legend(frameon=False, fontsize=8, loc="best")
    rows[-1].set_xlabel("trial")
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def curves(trials: Sequence[FrozenTrial], objective: str, directions: Sequence[str]) -> Figure | None:
    """The objective of every trial over its epochs; pruned trials end in a cross."""
    shown = [trial for trial in trials if trial.intermediate_values]
    if not shown:
        return None
    figure, (axes,) = _figure(1, 1, 8.0, 4.0)
    best = best_of(trials, directions)
    labelled: set[str] = set()
    for trial in shown:
        epochs, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
        is_best = best is not None and trial.number == best.number
        kind = "best" if is_best else {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}.get(trial.state, "other")
        colour = {"best": _BEST, "pruned": _PRUNED, "failed": _FAILED, "other": _COMPLETE}[kind]
        label = {"best": f"best: trial {trial.number}", "other": "complete"}.get(kind, kind)
        axes.plot(
            epochs,
            values,
            color=colour,
            linewidth=2.2 if is_best else 1.1,
            alpha=1.0 if is_best else 0.75,
            zorder=4 if is_best else 2,
            marker="o" if len(epochs) == 1 and kind != "pruned" else None,
            markersize=3,
            label=label if label not in labelled else None,
        )
        labelled.add(label)
        if kind == "pruned":
            axes.plot(epochs[-1], values[-1], marker="x", color="#6c7a86", markersize=6, zorder=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel(objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def importance_bars(found: dict[str, float]) -> Figure | None:
    """The importance of each parameter, as bars."""
    if not found:
        return None
    names = list(found)[::-1]
    figure, (axes,) = _figure(1, 1, 8.0, 1.0 + 0.42 * len(names))
    bars = axes.barh(names, [found[name] for name in names], color=_COMPLETE, height=0.62)
    axes.bar_label(bars, [f"{found[name]:.2f}" for name in names], padding=4, fontsize=9)
    axes.set_xlim(0, max(found.values()) * 1.14 or 1.0)
    axes.set_xlabel("importance (PED-ANOVA)")
    axes.grid(visible=False, axis="y")
    return figure


def by_optuna(plot: Callable[..., Any], study: Study, objective: str, width: float) -> Figure | None:
    """A plot of `optuna.visualization.matplotlib`; None if there are fewer than two trials or parameters to plot."""
    names = {name for trial in study.trials for name in trial.params}
    if not names or len(study.trials) < 2:
        return None
    with warnings.catch_warnings(), pyplot.style.context("default"):  # Optuna sets a style for all plots
        warnings.simplefilter("ignore")  # it calls its matplotlib plots experimental
        drawn = plot(study, target_name=objective)
    figure: Any = (drawn if isinstance(drawn, Axes) else drawn[0]).figure
    pyplot.close(figure)
    for axes in figure.axes:
        if isinstance(axes.xaxis.get_major_locator(), AutoLocator):
            axes.xaxis.set_major_locator(MaxNLocator(3))  # labels such as 0.00025 are wide
    figure.suptitle("")
    figure.axes[0].set_title("")
    figure.set_size_inches(max(8.0, width * (len(names) + 1)), 4.6)
    return cast(Figure, figure)


def pareto(study: Study, objectives: Sequence[str]) -> Figure | None:
    """The first two objectives against each other, and the trials on the Pareto front."""
    best = sorted(study.best_trials, key=lambda trial: trial.values[0])
    if not best:
        return None
    rest = [trial for trial in complete_trials(study.get_trials(deepcopy=False)) if trial not in best]
    figure, (axes,) = _figure(1, 1, 6.4, 4.6)
    axes.scatter([t.values[0] for t in rest], [t.values[1] for t in rest], color=_PRUNED, s=30, label="dominated")
    axes.plot([t.values[0] for t in best], [t.values[1] for t in best], "o-", color=_BEST, label="Pareto front")
    for trial in best:
        axes.annotate(str(trial.number), trial.values[:2], xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"{objectives[0]} ({study.directions[0].name.lower()})")
    axes.set_ylabel(f"{objectives[1]} ({study.directions[1].name.lower()})")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    cells: Any = figure.subplots(rows, columns, squeeze=False)
    found = [axes for row in cells for axes in row]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#8b98a3")
        axes.grid(color="#e3e8ec", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors="#40505c", labelsize=9)
    return figure, found
