"""report/*.png: what a study found, drawn with matplotlib."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from watchme.sweep.importance import importances
from watchme.sweep.plan import Plan
from watchme.sweep.progress import best_of

_BEST, _COMPLETE, _PRUNED, _FAILED, _LINE = "#d1495b", "#2a6f97", "#a9b4bd", "#e9a23b", "#1b3a4b"
_DPI = 120


def draw(plan: Plan, trials: Sequence[FrozenTrial]) -> list[tuple[str, str]]:
    """Draw what there is something to draw of.

    Returns:
        File name and title of each picture, in the order in which they are read.
    """
    folder = plan.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    single = len(plan.objectives) == 1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    wanted: list[tuple[str, str, Callable[[], Figure | None]]] = [
        ("history", "Optimisation history", lambda: history(trials, plan.objectives, plan.directions)),
        ("pareto", "Pareto front", lambda: None if single else pareto(plan, complete)),
        ("curves", "Learning curves", lambda: curves(trials, plan.objectives[0], plan.directions)),
        ("importances", "What mattered", lambda: importance_bars(importances(plan, trials))),
        ("parallel", "Parallel coordinates", lambda: parallel(complete, plan.objectives[0], plan.directions)),
        ("slices", "Each parameter by itself", lambda: slices(trials, plan.objectives[0], plan.directions)),
    ]
    drawn = []
    for name, title, make in wanted:
        figure = make()
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)  # of an earlier state of the study
            continue
        _save(figure, path)
        drawn.append((path.name, title))
    return drawn


def history(trials: Sequence[FrozenTrial], objectives: Sequence[str], directions: Sequence[str]) -> Figure | None:
    """Each trial's value and the best so far, an objective a row."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    if not complete:
        return None
    figure, rows = _figure(len(objectives), 1, 8.0, 3.4)
    for index, (axes, name) in enumerate(zip(rows, objectives, strict=True)):
        axes.scatter(*_xy(complete, index), s=34, color=_COMPLETE, zorder=3, label="complete")
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
    """The objective over the epochs of every trial; pruned ones end in a cross."""
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
    """Share of each parameter in what made trials good."""
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


def parallel(complete: Sequence[FrozenTrial], objective: str, directions: Sequence[str]) -> Figure | None:
    """Every complete trial as a line over all parameters, coloured by its objective."""
    names = list(dict.fromkeys(name for trial in complete for name in trial.params))
    shown = [trial for trial in complete if set(names) == set(trial.params)]
    if len(shown) < 2 or len(names) < 2:
        return None
    figure, (axes,) = _figure(1, 1, max(8.0, 1.45 * (len(names) + 1)), 4.2)
    columns = [*names, objective]
    scales = [_Scale([trial.params[name] for trial in shown], _distribution(shown, name)) for name in names]
    scales.append(_Scale([trial.values[0] for trial in shown], None))
    values = [trial.values[0] for trial in shown]
    low, high = min(values), max(values)
    colours = colormaps["viridis_r" if directions[0] == "minimize" else "viridis"]
    order = sorted(shown, key=lambda trial: trial.values[0], reverse=directions[0] == "minimize")
    for trial in order:
        raw = [*(trial.params[name] for name in names), trial.values[0]]
        share = (trial.values[0] - low) / ((high - low) or 1.0)
        axes.plot([scale(value) for scale, value in zip(scales, raw, strict=True)], color=colours(share), alpha=0.85)
    for index, scale in enumerate(scales):
        axes.axvline(index, color="#c3ccd3", linewidth=1, zorder=0)
        for place, text in scale.ticks():
            axes.text(
                index - 0.04, place, text, fontsize=9, ha="right", va="center", color="#40505c", zorder=5
            ).set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0})
    axes.set_xticks(range(len(columns)), [name.replace("optimizer.", "").replace("train.", "") for name in columns])
    axes.set_yticks([])
    axes.set_xlim(-0.45, len(columns) - 0.85)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def slices(trials: Sequence[FrozenTrial], objective: str, directions: Sequence[str]) -> Figure | None:
    """The objective against each parameter; pruned trials with their last value."""
    shown = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.values]
    names = list(dict.fromkeys(name for trial in shown for name in trial.params))
    if not names:
        return None
    columns = min(3, len(names))
    figure, rows = _figure(math.ceil(len(names) / columns), columns, 3.4 * columns, 3.0)
    best = best_of(trials, directions)
    for index, (axes, name) in enumerate(zip(rows, names, strict=False)):
        own = [trial for trial in shown if name in trial.params]
        distribution = _distribution(own, name)
        places: dict[int, Any] = {trial.number: trial.params[name] for trial in own}
        if isinstance(distribution, CategoricalDistribution):  # in the order of the search space
            order = [str(choice) for choice in distribution.choices]
            axes.set_xticks(range(len(order)), order)
            axes.set_xlim(-0.5, len(order) - 0.5)
            places = {number: order.index(str(place)) for number, place in places.items()}
        elif isinstance(distribution, (FloatDistribution, IntDistribution)):
            _span(axes, distribution)
        pruned = [trial for trial in own if trial.state == TrialState.PRUNED]
        complete = [trial for trial in own if trial.state == TrialState.COMPLETE]
        marked = [trial for trial in complete if best is not None and trial.number == best.number]
        groups: tuple[tuple[Sequence[FrozenTrial], dict[str, Any]], ...] = (
            (pruned, {"color": _PRUNED, "marker": "x", "s": 24}),
            (complete, {"color": _COMPLETE, "s": 30, "alpha": 0.85}),
            (marked, {"color": _BEST, "s": 46}),
        )
        for group, style in groups:
            axes.scatter([places[trial.number] for trial in group], [trial.values[0] for trial in group], **style)
        axes.set_xlabel(name)
        if index % columns == 0:
            axes.set_ylabel(objective)
    for axes in rows[len(names) :]:
        axes.set_visible(False)
    return figure


def pareto(plan: Plan, complete: Sequence[FrozenTrial]) -> Figure | None:
    """The first two objectives against each other, with those trials that none beats in both."""
    if len(complete) < 1:
        return None
    front = {trial.number for trial in pareto_front(complete, plan.directions)}
    figure, (axes,) = _figure(1, 1, 6.4, 4.6)
    rest = [trial for trial in complete if trial.number not in front]
    best = sorted((trial for trial in complete if trial.number in front), key=lambda trial: trial.values[0])
    axes.scatter([t.values[0] for t in rest], [t.values[1] for t in rest], color=_PRUNED, s=30, label="dominated")
    axes.plot([t.values[0] for t in best], [t.values[1] for t in best], "o-", color=_BEST, label="Pareto front")
    for trial in best:
        axes.annotate(str(trial.number), trial.values[:2], xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"{plan.objectives[0]} ({plan.directions[0]})")
    axes.set_ylabel(f"{plan.objectives[1]} ({plan.directions[1]})")
    axes.legend(frameon=False, fontsize=8)
    return figure


def pareto_front(complete: Sequence[FrozenTrial], directions: Sequence[str]) -> list[FrozenTrial]:
    """Trials that no other trial equals or beats in everything."""
    signs = [1.0 if direction == "maximize" else -1.0 for direction in directions]

    def score(trial: FrozenTrial) -> list[float]:
        return [sign * value for sign, value in zip(signs, trial.values, strict=True)]

    def beaten(trial: FrozenTrial) -> bool:
        own = score(trial)
        return any(
            (other := score(rival)) != own and all(o >= s for o, s in zip(other, own, strict=True))
            for rival in complete
        )

    return [trial for trial in complete if not beaten(trial)]


class _Scale:
    """Where a parameter's value stands between 0 and 1."""

    def __init__(self, values: Sequence[Any], distribution: BaseDistribution | None) -> None:
        self.log = bool(getattr(distribution, "log", False))
        self.texts = (
            [str(choice) for choice in distribution.choices]
            if isinstance(distribution, CategoricalDistribution)
            else []
        )
        if isinstance(distribution, (FloatDistribution, IntDistribution)):
            self.low, self.high = float(distribution.low), float(distribution.high)
        elif not self.texts:
            self.low, self.high = float(min(values)), float(max(values))

    def __call__(self, value: Any) -> float:
        if self.texts:
            return (self.texts.index(str(value)) + 0.5) / len(self.texts)
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, float(value)))
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        if self.texts:
            return [(self(text), text) for text in self.texts]
        return [(self(value), f"{value:.4g}") for value in dict.fromkeys((self.low, self.high))]


def _span(axes: Axes, distribution: FloatDistribution | IntDistribution) -> None:
    """Show the whole range that was searched."""
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * 1.3)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.04 * ((high - low) or 1.0)
        axes.set_xlim(low - margin, high + margin)
        axes.locator_params(axis="x", nbins=4)


def _distribution(trials: Sequence[FrozenTrial], name: str) -> BaseDistribution:
    return next(trial.distributions[name] for trial in trials if name in trial.distributions)


def _xy(trials: Sequence[FrozenTrial], index: int) -> tuple[list[int], list[float]]:
    return [trial.number for trial in trials], [trial.values[index] for trial in trials]


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


def _save(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png", dpi=_DPI)
    temporary.replace(path)
