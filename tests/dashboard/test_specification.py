"""The specification of W&B's pages, without a server: what each section shows, and of which runs."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from watchme.dashboard.contents import Contents, Study, expected, read_contents
from watchme.dashboard.wandb_pages import build_report, build_workspace

PLACE = {"project": "people", "entity": "us"}


def a_run(run_id: str, config: dict[str, Any], **summary: Any) -> Any:
    """A run as W&B's public API gives it."""
    return SimpleNamespace(id=run_id, config=config, summary_metrics=summary)


def runs() -> list[Any]:
    logged = {
        "val/map50": {"max": 0.5},
        "train/loss": {"min": 1.0},
        "step/loss": 0.9,
        "perf/images_per_s": {"mean": 30.0},
        "test/map50": 0.4,
        "test/detections": {"_type": "images/separated"},
        "test/per_class": {"_type": "table-file"},
        "charts/test/f1_table": {"_type": "table-file"},
        "objective": "val/map50",
        "objective_value": 0.5,
    }
    trial = {"study": "tune", "parameters": ["optimizer.lr", "choices.augmentation"]}
    return [
        a_run("a", {"trial": {**trial, "number": 0}}, **logged, status="finished"),
        a_run("b", {"trial": {**trial, "number": 1}}, **logged, status="pruned"),
        a_run("c", {"trial": {**trial, "number": 2}}, status="failed"),
        a_run("d", {}, **logged, status="finished"),
    ]


@pytest.fixture
def contents() -> Contents:
    return read_contents(runs())


def panels_of(workspace: Any) -> dict[str, list[dict[str, Any]]]:
    """Section -> its panels as they are sent."""
    sent = workspace._to_model().spec.model_dump(by_alias=True, exclude_none=True)["section"]
    return {section["name"]: section["panels"] for section in sent["panelBankConfig"]["sections"]}


def runset_of(workspace: Any) -> dict[str, Any]:
    (found,) = workspace._to_model().spec.model_dump(by_alias=True, exclude_none=True)["section"]["runSets"]
    return dict(found)


def test_contents_are_what_the_runs_logged(contents: Contents) -> None:
    assert contents.metrics == ["perf/images_per_s", "step/loss", "test/map50", "train/loss", "val/map50"]
    assert contents.pictures == ["test/detections"]
    assert contents.charts == ["charts/test/f1_table"]
    assert contents.runs == 4
    statuses = {"a": "finished", "b": "pruned", "c": "failed"}
    parameters = ["optimizer.lr", "choices.augmentation"]
    assert contents.studies == {"tune": Study("tune", "val/map50", parameters, statuses)}


def test_a_project_without_runs_gets_what_both_engines_measure() -> None:
    assert read_contents([]) == expected()
    titles = list(panels_of(build_workspace(expected(), **PLACE)))
    assert titles == ["Validation", "Losses", "Test metrics", "Curves", "Pictures", "Speed"]


def test_sections_of_the_workspace(contents: Contents) -> None:
    found = panels_of(build_workspace(contents, **PLACE))
    assert list(found) == ["Validation", "Losses", "Test metrics", "Curves", "Pictures", "Speed", "Sweep tune"]
    (validation,) = found["Validation"]
    assert validation["config"]["xAxis"] == "epoch"
    assert validation["config"]["metrics"] == ["val/map50"]
    loss, within = found["Losses"]
    assert (loss["config"]["metrics"], loss["config"]["yLogScale"]) == (["train/loss"], True)
    assert (within["config"]["metrics"], within["config"]["xAxis"]) == (["step/loss"], "step")
    kinds = [panel["viewType"] for panel in found["Test metrics"]]
    assert kinds == ["Bar Chart", "Bar Chart", "Run Comparer"]
    assert [panel["config"]["metrics"] for panel in found["Test metrics"][:2]] == [["objective_value"], ["test/map50"]]
    (curve,) = found["Curves"]
    assert curve["config"]["panelDefId"] == "wandb/area-under-curve/v0"
    assert curve["config"]["fieldSettings"] == {"x": "confidence", "y": "f1", "class": "class"}
    assert "charts/test/f1_table" in json.dumps(curve["config"]["userQuery"])
    assert found["Pictures"][0]["config"]["mediaKeys"] == ["test/detections"]
    assert [panel["config"]["metrics"] for panel in found["Speed"]] == [["perf/images_per_s"]]


def test_a_sweep_is_shown_by_its_parameters_importances_and_the_best_so_far(contents: Contents) -> None:
    parallel, importance, scatter, curves = panels_of(build_workspace(contents, **PLACE))["Sweep tune"]
    assert [column["accessor"] for column in parallel["config"]["columns"]] == [
        "config:optimizer.value.lr",
        "config:choices.value.augmentation",
        "summary:objective_value",
    ]
    assert parallel["config"]["columns"][0]["log"]
    assert importance["config"]["targetKey"] == "objective_value"
    assert scatter["config"]["xAxis"] == "config:trial.value.number"
    assert scatter["config"]["showMaxYAxisLine"]
    assert curves["config"]["metrics"] == ["val/map50"]


def test_best_so_far_is_the_lowest_where_lower_is_better() -> None:
    study = Study("tune", "val/loss", ["optimizer.lr"], {"a": "finished"})
    parallel, _, scatter, _ = panels_of(build_workspace(Contents([], [], studies={"tune": study}), **PLACE))[
        "Sweep tune"
    ]
    assert scatter["config"]["showMinYAxisLine"]
    assert "showMaxYAxisLine" not in scatter["config"]
    assert parallel["config"]["columns"][-1]["inverted"]


def test_pruned_and_failed_trials_have_colours_of_their_own(contents: Contents) -> None:
    sent = build_workspace(contents, **PLACE)._to_model().spec.model_dump(by_alias=True)["section"]
    assert sent["customRunColors"] == {"b": "#9aa0a6", "c": "#d1322b"}
    assert "summary:status" in sent["runSets"][0]["runFeed"]["columnOrder"]


def test_pages_of_one_study_show_its_trials_alone(contents: Contents) -> None:
    workspace = build_workspace(contents, study="tune", **PLACE)
    assert next(iter(panels_of(workspace))) == "Sweep tune"
    runset = runset_of(workspace)
    (wanted,) = runset["filters"]["filters"]
    assert (wanted["key"]["name"], wanted["op"], wanted["value"]) == ("group", "=", "tune")
    assert "config:optimizer.value.lr" in runset["runFeed"]["columnOrder"]
    assert not runset_of(build_workspace(contents, **PLACE))["filters"]["filters"]


def test_the_report_has_the_same_sections_and_pruned_trials_apart(contents: Contents) -> None:
    report = build_report(contents, **PLACE)
    headings = [block.text for block in report.blocks if type(block).__name__ == "H1"]
    assert headings == ["Validation", "Losses", "Test metrics", "Curves", "Pictures", "Speed", "Sweep tune"]
    sweep = report.blocks[-1]
    assert [runset.name for runset in sweep.runsets] == ["trials", "pruned trials"]
    whole, pruned = (runset.filters for runset in sweep.runsets)
    assert whole == "Metric(\"Group\") == 'tune' and SummaryMetric(\"status\") != 'pruned'"
    assert pruned == "Metric(\"Group\") == 'tune' and SummaryMetric(\"status\") == 'pruned'"
    assert sweep.runsets[1].run_settings["b"].color == "#9aa0a6"
    kinds = [type(panel).__name__ for panel in sweep.panels]
    assert kinds == ["ParallelCoordinatesPlot", "ParameterImportancePlot", "ScatterPlot", "LinePlot"]
