"""The panels of W&B's pages, by section; the workspace and the report are made of the same ones."""

from typing import Any

import wandb_workspaces.reports.v2 as wr

from watchme.core.metric_names import SAME_CAMERA, higher_is_better
from watchme.dashboard.contents import Contents, Study
from watchme.tracking.curves import CHARTS

# Distinct for the colour-blind, as in the pages of report/.
PRUNED, FAILED = "#9aa0a6", "#d1322b"
COLOURS = {"pruned": PRUNED, "failed": FAILED, "interrupted": FAILED, "killed": FAILED}
_SHOWN = 24  # runs in one panel


def sections(contents: Contents) -> dict[str, list[Any]]:
    """Title of a section -> its panels, without sections that would be empty."""
    found = {
        "Validation": [_over_epochs(name) for name in contents.of("val/", f"{SAME_CAMERA}/")],
        "Losses": _losses(contents),
        "Test metrics": _test(contents),
        "Curves": _charts(contents),
        "Pictures": _pictures(contents),
        "Speed": _speed(contents),
    }
    return {title: panels for title, panels in found.items() if panels}


def sweep_panels(study: Study) -> list[Any]:
    """What to read a sweep by: parallel coordinates, importances, best so far, all curves."""
    objective = study.objective or "objective_value"
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(name), log=_is_log(name)) for name in study.parameters]
    value = wr.SummaryMetric("objective_value")
    columns.append(wr.ParallelCoordinatesPlotColumn(value, display_name=objective, inverted=not study.maximize or None))
    best = {"running_ymax": True} if study.maximize else {"running_ymin": True}
    wide = wr.Layout(w=24, h=10)
    return [
        wr.ParallelCoordinatesPlot(columns=columns, title=f"Parameters and {objective}", layout=wide),
        wr.ParameterImportancePlot(with_respect_to="objective_value", layout=wr.Layout(w=12, h=8)),
        wr.ScatterPlot(
            title=f"{objective} of each trial; the line is the best so far, pruned trials included",
            x=wr.Config("trial.number"),
            y=value,
            layout=wr.Layout(w=12, h=8),
            **best,
        ),
        _over_epochs(objective, w=24),
    ]


def _over_epochs(name: str, w: int = 8, **settings: Any) -> Any:
    layout = wr.Layout(w=w, h=8 if w > 8 else 6)
    return wr.LinePlot(title=name, x="epoch", y=[name], max_runs_to_show=_SHOWN, layout=layout, **settings)


def _losses(contents: Contents) -> list[Any]:
    within = [_over_steps(name) for name in contents.metrics if name in ("step/loss", "step/lr")]
    return [*(_over_epochs(name, log_y=True) for name in contents.losses), *within]


def _over_steps(name: str) -> Any:
    log = True if name.endswith("loss") else None
    title = f"{name.removeprefix('step/')} within epochs"
    return wr.LinePlot(title=title, x="step", y=[name], max_runs_to_show=_SHOWN, log_y=log)


def _test(contents: Contents) -> list[Any]:
    """A bar for each run, and what its settings differ in."""
    bars = [
        wr.BarPlot(title=f"{name}{'' if higher_is_better(name) else ' (lower is better)'}", metrics=[name])
        for name in contents.of("test/")
    ]
    best = wr.BarPlot(title="Objective of the best epoch", metrics=["objective_value"])
    return [best, *bars, wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=12))] if bars else []


def _charts(contents: Contents) -> list[Any]:
    """W&B's own charts, each with a curve a run."""
    panels = []
    for table in contents.charts:
        _, split, name = table.removesuffix("_table").split("/", 2)
        if (spec := CHARTS.get(name)) is not None:
            strings = {**spec.texts, "title": f"{spec.title}, {split}"}
            query = {"summaryTable": {"tableKey": table}}
            panels.append(
                wr.CustomChart(query=query, chart_name=spec.drawing, chart_fields=spec.fields, chart_strings=strings)
            )
    return panels


def _pictures(contents: Contents) -> list[Any]:
    wide = wr.Layout(w=24, h=12)
    return [
        wr.MediaBrowser(title=name, media_keys=[name], num_columns=4, gallery_axis="step", layout=wide)
        for name in contents.pictures
    ]


def _speed(contents: Contents) -> list[Any]:
    within = [_over_steps(name) for name in contents.metrics if name == "step/images_per_s"]
    return [*(_over_epochs(name) for name in contents.of("perf/", "time/")), *within]


def _is_log(parameter: str) -> bool | None:
    """Whether a parameter's axis is logarithmic: what is searched over orders of magnitude."""
    name = parameter.rpartition(".")[2]
    return True if name in ("lr", "weight_decay", "eps") or name.endswith("_lr") else None
