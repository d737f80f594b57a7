"""One run from command to folder, shown with a third engine that is added without editing any file.

Its runs take a second each, and torch cannot be imported in them.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TrainPy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def finished(train_py: TrainPy, third_engine_project: Path) -> tuple["subprocess.CompletedProcess[str]", Path]:
    done = train_py("model=constant")
    assert done.returncode == 0, done.stderr
    return done, third_engine_project / done.stdout.strip().splitlines()[-1]


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def test_last_line_is_the_run_folder_below_outputs(
    finished: tuple["subprocess.CompletedProcess[str]", Path], third_engine_project: Path
) -> None:
    _, folder = finished
    assert folder.is_dir()
    assert folder.parent.parent == third_engine_project / "outputs"


def test_run_folder_holds_what_was_promised(
    finished: tuple["subprocess.CompletedProcess[str]", Path],
) -> None:
    _, folder = finished
    manifest = load(folder / "run.json")
    assert manifest["status"] == "finished"
    assert manifest["seed"] == 0
    assert manifest["overrides"] == ["model=constant"]
    assert manifest["command"].endswith("model=constant")
    assert manifest["timings"]["total_s"] > 0
    assert manifest["packages"]["hydra-core"]
    assert manifest["hardware"]["cores"] >= 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["val/map"] for line in lines] == [0.1, 0.5, 0.3, 0.2, 0.2, 0.2]
    summary = load(folder / "summary.json")
    assert summary["val/map"] == 0.5
    assert summary["best_epoch"] == 2
    assert "INFO" in (folder / "train.log").read_text()
    config = (folder / "config.yaml").read_text()
    assert "${" not in config
    assert "name: constant" in config


def test_closing_table_names_objective_weights_and_next_commands(
    finished: tuple["subprocess.CompletedProcess[str]", Path],
) -> None:
    done, _ = finished
    assert "objective, best epoch 2 of 6" in done.stdout
    assert "weights/last.pt" in done.stdout
    assert "python train.py mode=evaluate checkpoint=" in done.stdout


def test_training_that_made_it_worse_says_so(train_py: TrainPy, tmp_path: Path) -> None:
    done = train_py("model=constant", "model.before=0.6", f"hydra.run.dir={tmp_path}/worse")
    assert "training made val/map worse: 0.6000 before it, 0.5000" in done.stdout
    assert "(0.6000 before training)" in done.stdout
    assert any("worse" in text for text in load(tmp_path / "worse" / "run.json")["fallbacks"])
    assert "worse" not in train_py("model=constant", "model.before=0.4", f"hydra.run.dir={tmp_path}/better").stdout


def test_patience_stops_the_run(train_py: TrainPy, tmp_path: Path) -> None:
    done = train_py("model=constant", "train.patience=2", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4
    assert load(tmp_path / "run.json")["stopped"]["kind"] == "early_stop"


def test_failed_run_keeps_status_and_traceback_and_shows_none(train_py: TrainPy, tmp_path: Path) -> None:
    done = train_py("model=constant", "model.fail_at=3", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 1
    assert "Unexpected ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert load(tmp_path / "run.json")["status"] == "failed"
    assert "ZeroDivisionError" in (tmp_path / "traceback.txt").read_text()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_sigterm_saves_and_the_message_resumes(train_py: TrainPy, tmp_path: Path) -> None:
    stopped = train_py("model=constant", "model.interrupt_at=3", f"hydra.run.dir={tmp_path}")
    assert stopped.returncode == 130
    assert load(tmp_path / "run.json")["status"] == "interrupted"
    assert f"train.resume={tmp_path}" in stopped.stderr
    resumed = train_py(f"train.resume={tmp_path}", "model.interrupt_at=null")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.strip().splitlines()[-1] == str(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert load(tmp_path / "run.json")["status"] == "finished"


def test_a_run_is_never_overwritten(train_py: TrainPy, tmp_path: Path) -> None:
    assert train_py("model=constant", f"hydra.run.dir={tmp_path}").returncode == 0
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = train_py("model=constant", "train.epochs=1", f"hydra.run.dir={tmp_path}")
    assert again.returncode == 1
    assert "never overwritten" in again.stderr
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert load(tmp_path / "run.json")["status"] == "finished"


def test_evaluating_a_run_brings_its_config_along(train_py: TrainPy, tmp_path: Path) -> None:
    trained = train_py("model=constant", "train.epochs=2", "model.curve=[0.5,0.7]", f"hydra.run.dir={tmp_path}/a")
    assert trained.returncode == 0, trained.stderr
    shown = train_py("mode=evaluate", f"checkpoint={tmp_path}/a/weights/last.pt", "--cfg", "job")
    assert "- 0.7" in shown.stdout
    evaluated = train_py("mode=evaluate", f"checkpoint={tmp_path}/a/weights/last.pt", f"hydra.run.dir={tmp_path}/b")
    assert evaluated.returncode == 0, evaluated.stderr
    assert load(tmp_path / "b" / "summary.json")["test/map"] == 0.5
    weights = str(tmp_path / "a" / "weights" / "last.pt")
    assert load(tmp_path / "b" / "run.json")["evaluates"] == {"weights": weights, "run": str(tmp_path / "a")}
    overridden = train_py(
        "mode=evaluate", f"checkpoint={tmp_path}/a/weights/last.pt", "model.curve=[0.1,0.2]", "--cfg", "job"
    )
    assert "- 0.7" not in overridden.stdout
    assert "- 0.2" in overridden.stdout


def test_every_problem_in_one_message_with_status_2(train_py: TrainPy, third_engine_project: Path) -> None:
    shutil.rmtree(third_engine_project / "outputs" / "refused", ignore_errors=True)
    done = train_py(
        "model=constant",
        "+model.curv=1",
        "train.epoks=3",
        "modle=x",
        "train.seed=-1",
        "optimizer.lr=fast",
        "train.precision=fp61",
        "hydra.run.dir=outputs/refused",
    )
    assert done.returncode == 2
    for piece in (
        "6 problems",
        "did you mean model.curve?",
        "did you mean train.epochs?",
        "did you mean model?",
        "train.seed = -1",
        "expected a number >= 0",
        "optimizer.lr = 'fast'",
        "did you mean fp16?",
    ):
        assert piece in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (third_engine_project / "outputs" / "refused").exists()


def test_unknown_option_is_answered_with_the_nearest(train_py: TrainPy) -> None:
    done = train_py("model=constnat", "optimizer=adamv")
    assert done.returncode == 2
    assert "did you mean constant?" in done.stderr
    assert "did you mean adam" in done.stderr


def test_dotenv_sets_values_and_the_command_line_beats_it(train_py: TrainPy, third_engine_project: Path) -> None:
    dotenv = third_engine_project / ".env"
    dotenv.write_text("YOLO_EPOCHS=7\nYOLO_BATCH_SIZE=many\n")
    try:
        shown = train_py("--cfg", "job", "--resolve", "train.batch_size=4")
        assert "epochs: 7" in shown.stdout
        assert "epochs: 9" in train_py("--cfg", "job", "--resolve", "train.epochs=9").stdout
        refused = train_py("model=constant", "train.epochs=1", "train.batch_size=${oc.env:YOLO_BATCH_SIZE}")
        assert refused.returncode == 2
        assert "YOLO_BATCH_SIZE" in refused.stderr
        assert "train.batch_size = 'many'" in refused.stderr
    finally:
        dotenv.unlink()


def test_with_chdir_relative_paths_still_mean_the_users_folder(train_py: TrainPy, third_engine_project: Path) -> None:
    done = train_py("model=constant", "hydra.job.chdir=true", "hydra.run.dir=outputs/changed")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "outputs/changed"
    evaluated = train_py(
        *("mode=evaluate", "checkpoint=outputs/changed/weights/last.pt", "hydra.job.chdir=true"),
        "hydra.run.dir=outputs/evaluated",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert (third_engine_project / "outputs" / "evaluated" / "summary.json").is_file()
