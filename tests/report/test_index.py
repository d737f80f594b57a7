"""The index of runs and sweeps."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from report.conftest import add_evaluation, add_run
from tracking.made_up import Tracked, make_config
from watchme.core.interfaces import Result
from watchme.report.__main__ import main
from watchme.report.index_page import find_sweeps, run_data, write_index
from watchme.report.run_page import render as render_run
from watchme.report.run_reader import find_runs, read_run

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def data(outputs: Path) -> dict[str, dict[str, Any]]:
    text = (outputs / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    return {run["folder"]: run for run in json.loads(found[1])}


def test_lists_every_run_and_links_its_report(outputs: Path, data: dict[str, dict[str, Any]]) -> None:
    assert set(data) == {"one", "two", "broken", "sweep/0", "sweep/1"}
    for run in data.values():
        assert (outputs / run["link"]).is_file()
    assert data["broken"]["status"] == "failed"
    assert data["broken"]["value"] is None


def test_numbers_are_those_of_the_runs(outputs: Path, data: dict[str, dict[str, Any]]) -> None:
    lines = [json.loads(line) for line in (outputs / "one" / "metrics.jsonl").read_text().splitlines()]
    assert data["one"]["series"]["val/map50"] == [[at["epoch"], at["val/map50"]] for at in lines if at.get("val/map50")]
    assert data["one"]["metrics"]["test/map50"] == 0.5
    assert data["one"]["value"] == 0.57


def test_evaluation_is_titled_ranked_apart_and_listed_under_its_training(tmp_path: Path) -> None:
    training = add_run(tmp_path, "training", 0.1)
    add_evaluation(tmp_path, "evaluation", training.folder / "weights" / "best.pt")
    data = {run["folder"]: run for run in run_data(tmp_path, find_runs(tmp_path))}
    evaluation = data["evaluation"]
    assert evaluation["title"] == "Evaluation of made_up on nothing (test split)"
    assert (evaluation["objective"], evaluation["value"]) == ("test/map50", 0.9)
    assert evaluation["parent"] == "training"
    assert evaluation["ranking"] != data["training"]["ranking"]
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert '<a href="../training/report.html">report of their training</a>' in page
    assert str(training.folder / "weights" / "best.pt") in page
    assert "val/map50</div>" not in page, "no value of a split that was not evaluated"


@pytest.mark.parametrize("act", [shutil.move, shutil.copytree])
def test_an_evaluation_finds_its_training_where_both_are_now(
    tmp_path: Path, act: Callable[[Path, Path], object]
) -> None:
    outputs = tmp_path / "outputs"
    add_run(outputs, "training", 0.1)
    evaluation = add_evaluation(outputs, "evaluation", Path("outputs/training/weights/best.pt"))
    hydra = {"runtime": {"cwd": str(tmp_path), "output_dir": str(evaluation.folder)}}
    (evaluation.folder / ".hydra").mkdir()
    (evaluation.folder / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": hydra}))
    act(outputs, tmp_path / "kept")
    kept = tmp_path / "kept"
    data = {run["folder"]: run for run in run_data(kept, find_runs(kept))}
    assert data["evaluation"]["parent"] == "training"
    run = read_run(kept / "evaluation")
    assert run.inputs == {"Weights": kept / "training" / "weights" / "best.pt"}
    assert '<a href="../training/report.html">' in render_run(run)


def test_what_wandb_copies_of_a_run_is_no_run(tmp_path: Path) -> None:
    run = add_run(tmp_path / "wandb", "one", 0.1)  # a folder of that name is no reason
    inside = add_run(run.folder, "evaluation", 0.1)
    files = run.folder / "wandb" / "offline-run-20261126_192139-12f6cd26" / "files"
    files.mkdir(parents=True)
    shutil.copy(run.folder / "run.json", files)
    assert {found.folder for found in find_runs(tmp_path)} == {run.folder, inside.folder}


def test_a_check_is_listed_under_the_first_training_after_it(tmp_path: Path) -> None:
    earlier, check, later = (add_run(tmp_path, name, 0.1) for name in ("earlier", "check", "later"))
    other = add_run(tmp_path, "other", 0.1)
    for place, run in enumerate((earlier, check, other, later)):
        manifest = json.loads((run.folder / "run.json").read_text())
        manifest["started"] = f"2026-11-26T10:0{place}:00+00:00"
        (run.folder / "run.json").write_text(json.dumps(manifest))
    config = (check.folder / "config.yaml").read_text()
    (check.folder / "config.yaml").write_text(config.replace("mode: train", "mode: check"))
    (other.folder / "config.yaml").write_text(config.replace("name: nothing", "name: something"))

    def parent() -> Any:
        return {run["folder"]: run for run in run_data(tmp_path, find_runs(tmp_path))}["check"]["parent"]

    assert parent() == "later"
    shutil.rmtree(later.folder)
    assert parent() == "earlier", "without one the last before it"


def test_an_old_evaluations_value_is_named_after_the_split_that_was_measured(tmp_path: Path) -> None:
    run = add_evaluation(tmp_path, "evaluation", tmp_path / "best.pt")
    summary = json.loads((run.folder / "summary.json").read_text())
    (run.folder / "summary.json").write_text(json.dumps({**summary, "objective": "val/map50"}))
    assert read_run(run.folder).objective == "test/map50"


def test_runs_that_differ_in_their_seed_alone_are_twins(tmp_path: Path) -> None:
    for name, lr in (("one", 0.1), ("two", 0.1), ("other", 0.2)):
        run = add_run(tmp_path, name, lr)
        text = (run.folder / "config.yaml").read_text()
        (run.folder / "config.yaml").write_text(text.replace("seed: 7", f"seed: {len(name)}{name[0]}"))
    data = {run["folder"]: run for run in run_data(tmp_path, find_runs(tmp_path))}
    assert data["one"]["seed"] != data["two"]["seed"]
    assert data["one"]["twins"] == data["two"]["twins"] != data["other"]["twins"]


def test_failed_runs_say_why_and_interrupted_ones_show_their_last_value(tmp_path: Path) -> None:
    add_run(tmp_path, "broken", 0.1, "failed")
    cut = Tracked.begin(tmp_path / "cut", make_config())
    cut.epochs(1, 2, pictures=False)
    cut.end("interrupted")
    data = {run["folder"]: run for run in run_data(tmp_path, find_runs(tmp_path))}
    assert data["broken"]["reason"] == "ZeroDivisionError: division by zero"
    assert (data["cut"]["value"], data["cut"]["last"]) == (None, 0.42)
    card = '<div class="value">0.4200</div><div class="note">the last value, of epoch 2</div>'
    assert card in (cut.folder / "report.html").read_text()


def test_holds_only_what_differs_of_the_configs(data: dict[str, dict[str, Any]]) -> None:
    assert data["one"]["config"]["optimizer.lr"] == "0.001"
    assert data["two"]["config"]["optimizer.lr"] == "0.01"
    assert "train.seed" not in data["one"]["config"]


def test_sweep_is_gathered_and_linked(outputs: Path) -> None:
    (sweep,) = find_sweeps(outputs, find_runs(outputs))
    assert sweep.study == "my_study"
    assert len(sweep.runs) == 2
    assert sweep.best is not None
    text = (outputs / "index.html").read_text()
    assert '<a href="sweep/report/index.html">my_study</a>' in text


def test_a_pruned_trial_is_never_the_best_of_a_sweep(tmp_path: Path) -> None:
    whole, pruned = (add_run(tmp_path, f"sweep/{number}", 0.1, trial=number) for number in range(2))
    for run, status, value in ((whole, "finished", 0.4), (pruned, "pruned", 0.6)):
        run.record.write_summary("val/map50", status, Result({"val/map50": value}, value, 1, 1))
        run.record.close(status)
    (sweep,) = find_sweeps(tmp_path, find_runs(tmp_path))
    assert sweep.best is not None
    assert sweep.best.folder == whole.folder


def test_of_equal_trials_the_first_is_the_best_as_on_the_page_of_the_sweep(tmp_path: Path) -> None:
    first, second = (add_run(tmp_path, f"sweep/{number}", 0.1, trial=number) for number in range(2))
    for run, started in ((first, "2026-01-01"), (second, "2026-01-02")):
        run.record.record("started", started)  # the index has the newest first
    (sweep,) = find_sweeps(tmp_path, find_runs(tmp_path))
    assert [run.folder for run in sweep.runs] == [second.folder, first.folder]
    assert sweep.best is not None
    assert sweep.best.folder == first.folder


def test_what_measures_no_objective_has_no_value(tmp_path: Path) -> None:
    config = replace(make_config(), mode="export")
    run = Tracked.begin(tmp_path / "export", config)
    run.end("finished", Result({"val/map50": 0.57}, 0.57))
    (shown,) = run_data(tmp_path, find_runs(tmp_path))
    assert (shown["objective"], shown["value"]) == ("", None)
    assert shown["metrics"] == {"val/map50": 0.57}


def test_more_images_a_second_are_better_and_fewer_seconds(tmp_path: Path) -> None:
    run = Tracked.begin(tmp_path / "run", make_config())
    lower = {"time/train_s": 2.0, "val/loss": 1.0, "test/lost_boxes": 0.1}
    metrics = {"perf/frames_per_s": 30.0, "val/map50": 0.5, **lower}
    run.end("finished", Result(metrics, 0.5))
    (shown,) = run_data(tmp_path, find_runs(tmp_path))
    assert set(shown["lower"]) == set(lower)


def test_a_sweep_with_nothing_but_a_report_is_listed(tmp_path: Path) -> None:
    (tmp_path / "lonely" / "report").mkdir(parents=True)
    (tmp_path / "lonely" / "report" / "index.html").write_text("x")
    assert 'href="lonely/report/index.html"' in write_index(tmp_path).read_text()


def test_command_builds_it_and_writes_missing_reports(tmp_path: Path) -> None:
    run = add_run(tmp_path, "run", 0.1)
    (run.folder / "report.html").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "watchme.report", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "index.html")
    assert (run.folder / "report.html").is_file()
    missing = subprocess.run(
        [sys.executable, "-m", "watchme.report", str(tmp_path / "nowhere")], cwd=PROJECT, capture_output=True, text=True
    )
    assert missing.returncode == 2
    assert "is not a folder" in missing.stderr


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").mkdir()
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path} cannot be written: Is a directory\n    --serve shows")


@pytest.mark.parametrize(
    "content", [b"", b"image,ap\r\na.jpg,0.5\r\nb.j", b"\xff\xfe{["], ids=["empty", "cut", "bytes"]
)
def test_a_damaged_table_keeps_no_run_from_its_report(tmp_path: Path, content: bytes) -> None:
    run = add_run(tmp_path, "run", 0.1)
    (run.folder / "tables" / "test_per_image.csv").write_bytes(content)
    (run.folder / "report.html").unlink()
    write_index(tmp_path)
    assert ("a.jpg" in (run.folder / "report.html").read_text()) == (b"a.jpg" in content)


def test_a_config_that_was_cut_off_keeps_no_run_from_the_index(tmp_path: Path) -> None:
    run = add_run(tmp_path, "run", 0.1)
    text = (run.folder / "config.yaml").read_text()
    (run.folder / "config.yaml").write_text(text[: text.index("trial: null") + len("trial: nu")])
    assert [shown["title"] for shown in run_data(tmp_path, find_runs(tmp_path))] == ["made_up on nothing"]


def test_a_report_that_cannot_be_drawn_keeps_no_other_run_from_the_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("damaged", "whole"):
        (add_run(tmp_path, name, 0.1).folder / "report.html").unlink()
    (tmp_path / "damaged" / "pictures.json").write_text('{"pictures": [3]}')
    page = write_index(tmp_path)
    assert (tmp_path / "whole" / "report.html").is_file()
    assert '"folder":"damaged"' in page.read_text()
    assert f"No report of {tmp_path / 'damaged'}: TypeError" in caplog.text


def test_text_of_runs_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    run = add_run(tmp_path, "a run</script><b>", 0.1)
    assert run.folder.is_dir()
    text = write_index(tmp_path).read_text()
    assert "a run</script>" not in text
    assert "a%20run%3C/script%3E%3Cb%3E/report.html" in text
