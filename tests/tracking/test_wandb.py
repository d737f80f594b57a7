"""What W&B's offline file holds, read back and compared with metrics.jsonl."""

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tracking.made_up import BOXES, CURVE, Tracked, make_config, tracking_of
from tracking.wandb_file import WandbFile
from watchme.core.interfaces import Result, Table
from watchme.tracking.wandb_media import table_of


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
    assert [row["epoch"] for row in rows] == [line["epoch"] for line in lines]
    own = [row["_step"] for row in saved.history]
    assert own == sorted(set(own)), "W&B drops a row whose number is not greater than the last"
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
    found = [artifact for artifact in saved.artifacts if artifact.type == "model"]
    models = {alias.removeprefix("trial4-"): artifact for artifact in found for alias in artifact.aliases}
    for alias in ("best", "last"):
        assert json.loads(models[alias].metadata)["dataset"]["fingerprint"] == "sha256:abc"
        content = next(entry for entry in models[alias].manifest.contents if entry.path == f"{alias}.pt")
        assert content.local_path == str(whole_run.folder / "weights" / f"{alias}.pt"), "referred to, not copied"


def test_system_metrics_are_sampled(saved: WandbFile) -> None:
    assert saved.stats >= 1


def epochs_of(saved: WandbFile) -> list[int]:
    return [row["epoch"] for row in saved.history if "train/loss" in row]


def steps_of(saved: WandbFile) -> list[int]:
    return [row["step"] for row in saved.history if "step/loss" in row]


def test_points_within_epochs_have_their_own_axis(saved: WandbFile) -> None:
    assert steps_of(saved) == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    assert saved.metrics["step/loss"].step_metric == "step"
    assert saved.metrics["step/loss"].summary.last


def test_resumed_run_goes_on_and_repeats_neither_epoch_nor_step(resumed_run: Tracked) -> None:
    first, second = (WandbFile(resumed_run.folder, index) for index in (0, 1))
    assert first.run.run_id == second.run.run_id
    assert (first.exit_code, second.exit_code) == (255, 0), "interrupted, finished"
    assert epochs_of(first) == [1, 2, 3], "the fourth has no checkpoint: it is trained again"
    assert epochs_of(second) == [4, 5]
    assert steps_of(first) == [5, 10, 15, 20, 25, 30, 35, 40]
    assert steps_of(second) == [45, 50]
    numbers = [row["_step"] for saved in (first, second) for row in saved.history]
    assert numbers == sorted(set(numbers))


def test_what_a_broken_off_tracker_missed_is_logged_when_the_run_is_resumed(tmp_path: Path) -> None:
    config = make_config(wandb=True, mode="offline")
    first = Tracked.begin(tmp_path / "run", config)
    first.epochs(1, 1, pictures=False)
    tracking_of(first)._process.kill()
    tracking_of(first)._done.wait(10)
    first.epochs(2, 3, pictures=False)
    first.end("interrupted")
    known = len(list(first.folder.glob("wandb/offline-run-*")))
    second = Tracked.begin(first.folder, replace(config, train=replace(config.train, resume=str(first.folder))))
    second.session.resumed(3)
    second.epochs(4, 5, pictures=False)
    second.end("finished", second.result())
    assert len(list(first.folder.glob("wandb/offline-run-*"))) == known + 1
    logged = json.loads((first.folder / "wandb" / "watchme-history.json").read_text())
    assert (logged["epoch"], logged["step"]) == (5, 50)
    assert epochs_of(WandbFile(first.folder))[-4:] == [2, 3, 4, 5]


def test_an_older_checkpoint_is_resumed_without_repeating_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(wandb=True, mode="offline")
    first = Tracked.begin(tmp_path / "run", config)
    first.epochs(1, 3, pictures=False)
    first.end("interrupted")
    second = Tracked.begin(first.folder, replace(config, train=replace(config.train, resume=str(first.folder))))
    second.session.resumed(1)
    second.epochs(2, 4, pictures=False)
    second.end("finished", second.result())
    assert epochs_of(WandbFile(first.folder)) == [4]
    assert "W&B keeps its rows of the epochs after 1" in caplog.text


def test_charts_are_drawn_by_wandb_itself(whole_run: Tracked, saved: WandbFile) -> None:
    (row,) = (row for row in saved.history if "charts/test/precision_recall_table" in row)
    files = saved.path.parent / "files"
    curve, f1, confusion, cmc = (
        json.loads((files / row[f"charts/test/{name}_table"]["path"]).read_text())
        for name in ("precision_recall", "f1", "confusion", "cmc")
    )
    assert curve["columns"] == ["recall", "precision", "class"]
    assert curve["data"][2] == [0.8, 0.6, "person"]
    assert f1["data"][2] == [0.2, pytest.approx(2 * 0.8 * 0.6 / 1.4), "person"]
    assert confusion["data"][0] == ["person", "person", 7]
    assert cmc["data"] == [[1, 0.5, "CMC"], [2, 0.75, "CMC"]]
    drawn = saved.config["_wandb"]["visualize"]
    assert drawn["charts/test/precision_recall"]["panel_config"]["panelDefId"] == "wandb/area-under-curve/v0"
    assert drawn["charts/test/confusion"]["panel_config"]["panelDefId"] == "wandb/confusion_matrix/v1"


def test_code_packages_and_log_are_among_the_files(saved: WandbFile) -> None:
    files = {path.name: path.read_text() for path in (saved.path.parent / "files").iterdir() if path.is_file()}
    assert "wandb==" in files["requirements.txt"]
    assert "first line of the log" in saved.output
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert saved.run.git.commit == saved.config["git"]["commit"] == commit.stdout.strip()


def test_the_dataset_is_an_artifact_with_its_fingerprint(saved: WandbFile) -> None:
    (dataset,) = (artifact for artifact in saved.artifacts if artifact.type == "dataset")
    assert dataset.name == "dataset-nothing"
    assert json.loads(dataset.metadata)["fingerprint"] == "sha256:abc"
    assert [entry.path for entry in dataset.manifest.contents] == ["dataset.json"], "no file of the dataset itself"


def test_weights_of_a_trial_are_versions_of_one_artifact_of_the_study(saved: WandbFile) -> None:
    models = [artifact for artifact in saved.artifacts if artifact.type == "model"]
    assert {artifact.name for artifact in models} == {"weights-yolo_tune"}
    aliases = [set(artifact.aliases) - {"latest"} for artifact in models]
    assert aliases == [{"trial4-best", "best"}, {"trial4-last"}]
    assert saved.summary["best_of_study_so_far"]


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


def test_a_table_may_have_empty_cells_and_columns_of_several_types() -> None:
    """As the recall by group has, which counts no false boxes by overlap: W&B refuses texts among numbers."""
    rows = (("size", "small", 6, 0), ("overlap", "none", 3, ""), ("overlap", "any", "few", 1))
    made = table_of(Table("test/by_group", ("by", "group", "people", "false"), rows))
    assert made.data == [["size", "small", 6, 0], ["overlap", "none", 3, None], ["overlap", "any", "few", 1]]
