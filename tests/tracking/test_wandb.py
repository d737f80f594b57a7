"""What W&B's offline file holds, read back and compared with metrics.jsonl."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tracking.made_up import BOXES, CURVE, Tracked, make_config
from tracking.wandb_file import WandbFile
from watchme.core.interfaces import Result


@pytest.fixture(scope="module")
def saved(whole_run: Tracked) -> WandbFile:
    return WandbFile(whole_run.folder)


def test_exactly_one_run_inside_the_run_folder(whole_run: Tracked, saved: WandbFile) -> None:
    assert len(list(whole_run.folder.glob("wandb/*run-*/*.wandb"))) == 1
    assert saved.run.run_id == json.loads((whole_run.folder / "run.json").read_text())["wandb"]["id"]


def test_project_group_job_type_tags_and_notes(saved: WandbFile) -> None:
    assert saved.run.project == "watchme-training"
    assert saved.run.run_group == "yolo_tune"
    assert saved.run.job_type == "train"
    assert saved.run.display_name == "yolo_tune-trial4"
    assert saved.run.notes == "a note"
    assert saved.tags[:5] == ["people", "none", "made_up", "nothing", "train"]


def test_config_is_the_resolved_one_with_trial_and_dataset(saved: WandbFile) -> None:
    assert saved.config["optimizer"]["lr"] == 0.001
    assert saved.config["train"]["seed"] == 7
    assert saved.config["trial"] == {"study": "yolo_tune", "number": 4, "parameters": ["optimizer.lr"]}
    assert saved.config["goal"] == "maximize"
    assert saved.config["dataset_fingerprint"]["fingerprint"] == "sha256:abc"


def test_config_says_where_the_code_is_from_and_leaves_out_what_is_not_used(saved: WandbFile) -> None:
    assert set(saved.config["git"]) >= {"commit", "dirty"}
    assert "python" in saved.config["command"] or "pytest" in saved.config["command"]
    assert "torch" in saved.config["packages"] or saved.config["packages"]
    assert not {"export", "check", "loss", "checkpoint"} & set(saved.config)


def test_manifest_and_logs_are_among_the_files(saved: WandbFile) -> None:
    assert {"run.json"} <= {path.name for path in (saved.path.parent / "files").iterdir()}


def test_history_equals_metrics_jsonl(whole_run: Tracked, saved: WandbFile) -> None:
    lines = whole_run.lines()
    rows = [row for row in saved.history if "train/loss" in row]
    assert [row["_step"] for row in rows] == [line["epoch"] for line in lines]
    for line, row in zip(lines, rows, strict=True):
        numbers = {name: value for name, value in line.items() if name not in ("time", "is_best")}
        assert {name: row.get(name) for name in numbers} == numbers
    assert "val/map50" not in rows[-1], "an undefined value is left out"


def test_metrics_have_the_epoch_as_axis_and_fitting_summaries(saved: WandbFile) -> None:
    for name in ("train/loss", "val/map50", "perf/images_per_s"):
        assert saved.metrics[name].step_metric == "epoch"
    assert saved.metrics["train/loss"].summary.min
    assert saved.metrics["val/map50"].summary.max
    assert saved.metrics["train/lr"].summary.last
    assert saved.metrics["perf/images_per_s"].summary.mean
    assert saved.summary["val/map50"] == {"max": max(value for value in CURVE if not math.isnan(value))}
    assert saved.summary["train/loss"] == {"min": 0.4}


def test_summary_holds_the_result(saved: WandbFile) -> None:
    assert saved.summary["test/map50"] == 0.5
    assert saved.summary["best"]["val/map50"] == 0.57
    assert saved.summary["best_epoch"] == 3
    assert saved.summary["status"] == "finished"
    assert saved.exit_code == 0


def test_pictures_carry_boxes_and_each_epoch_its_own(whole_run: Tracked, saved: WandbFile) -> None:
    files = saved.path.parent / "files"
    rows = [row["val/predictions"] for row in saved.history if "val/predictions" in row]
    assert len(rows) == len(CURVE)
    assert all(row["count"] == 2 for row in rows), "tracker.images=2 of the three"
    pictures = {(files / row["filenames"][0]).read_bytes() for row in rows}
    assert len(pictures) == len(CURVE), "the engine drew them into one file"
    boxes = json.loads((files / rows[0]["all_boxes"][0]["predictions"]["path"]).read_text())
    assert boxes["class_labels"] == {"0": "person"}
    first = boxes["box_data"][0]
    assert tuple(first["position"].values()) == BOXES[0][:4]
    assert first["scores"] == {"score": 0.9}
    assert any("test/ranked" in row for row in saved.history)


def test_table_of_results(saved: WandbFile) -> None:
    row = next(row for row in saved.history if "test/per_image" in row)
    table = json.loads((saved.path.parent / "files" / row["test/per_image"]["path"]).read_text())
    assert table == {"columns": ["image", "ap"], "data": [["a.jpg", 0.5], ["b.jpg", 0.25]]} | {
        key: value for key, value in table.items() if key not in ("columns", "data")
    }


def test_weights_are_artifacts_with_fingerprint(whole_run: Tracked, saved: WandbFile) -> None:
    models = {alias: artifact for artifact in saved.artifacts if artifact.type == "model" for alias in artifact.aliases}
    assert {"best", "last"} <= set(models)
    for alias in ("best", "last"):
        assert json.loads(models[alias].metadata)["dataset"]["fingerprint"] == "sha256:abc"
        content = next(entry for entry in models[alias].manifest.contents if entry.path == f"{alias}.pt")
        assert content.local_path == str(whole_run.folder / "weights" / f"{alias}.pt"), "referred to, not copied"


def test_system_metrics_are_sampled(saved: WandbFile) -> None:
    assert saved.stats >= 1


def test_resumed_run_goes_on_with_id_and_step(resumed_run: Tracked) -> None:
    first, second = (WandbFile(resumed_run.folder, index) for index in (0, 1))
    assert first.run.run_id == second.run.run_id
    assert first.exit_code == 255, "interrupted"
    assert [row["_step"] for row in first.history] == [1, 2, 3, 4]
    assert [row["_step"] for row in second.history] == [4, 5]
    assert second.exit_code == 0


def test_an_evaluations_objective_is_named_after_the_split_that_was_measured(tmp_path: Path) -> None:
    config = replace(make_config(wandb=True, mode="offline"), mode="evaluate", checkpoint="best.pt")
    run = Tracked.begin(tmp_path / "run", config)
    run.end("finished", Result({"test/map50": 0.9}, 0.9))
    summary = WandbFile(run.folder).summary
    assert (summary["objective"], summary["objective_value"]) == ("test/map50", 0.9)
    assert not (run.folder / "tracking.log").exists(), (run.folder / "tracking.log").read_text()


@pytest.mark.parametrize(("status", "code"), [("pruned", 0), ("failed", 1)])
def test_pruned_and_failed_are_marked(status: str, code: int, tmp_path: Path) -> None:
    run = Tracked.begin(tmp_path / "run", make_config(wandb=True, mode="offline"))
    run.epochs(1, 2, pictures=False)
    failed = status == "failed"
    run.end(status, None if failed else run.result(), ZeroDivisionError("division by zero") if failed else None)
    saved = WandbFile(run.folder)
    assert saved.exit_code == code
    assert status in saved.tags
    assert saved.summary["status"] == status
    if failed:
        assert "division by zero" in saved.summary["error"]
