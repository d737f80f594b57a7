"""`tracker=all` from the command line: the same numbers in every place, and the sync command at the end."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracking.equal import assert_equal_everywhere
from tracking.wandb_file import WandbFile

TrainPy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def tracked(train_py: TrainPy, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("command")
    (root / "home").mkdir()
    done = train_py(
        "model=constant",
        "tracker=all",
        f"hydra.run.dir={root}/run",
        WANDB_PROJECT="mine",
        WANDB_ENTITY="us",
        HOME=f"{root}/home",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout, root / "run"


def test_the_same_numbers_everywhere(tracked: tuple[str, Path]) -> None:
    assert assert_equal_everywhere(tracked[1]) == 6


def test_console_names_report_and_sync_command(tracked: tuple[str, Path]) -> None:
    output, folder = tracked
    assert f"wandb sync {folder}/wandb/offline-run-*" in output
    assert f"tensorboard --logdir {folder}" in output
    assert f"{folder}/report.html" in output
    assert output.strip().splitlines()[-1] == str(folder)
    assert "wandb:" not in output, "W&B's own lines stay off the console"


def test_wandbs_own_variables_set_what_the_config_does_not(tracked: tuple[str, Path]) -> None:
    saved = WandbFile(tracked[1])
    assert saved.run.project == "mine"
    assert saved.run.entity == "us"
    assert saved.run.job_type == "train"


def test_command_line_beats_the_variables(train_py: TrainPy) -> None:
    shown = train_py(
        "model=constant",
        "tracker.mode=offline",
        "tracker.project=this",
        "--cfg",
        "job",
        "--resolve",
        WANDB_MODE="online",
        WANDB_PROJECT="mine",
    )
    assert "mode: offline" in shown.stdout
    assert "project: this" in shown.stdout
    refused = train_py("model=constant", WANDB_MODE="sideways")
    assert refused.returncode == 2
    assert "tracker.mode = 'sideways'" in refused.stderr
    assert "WANDB_MODE" in refused.stderr


def test_nothing_is_written_into_the_home_folder(tracked: tuple[str, Path]) -> None:
    folder = tracked[1]
    assert json.loads((folder / "run.json").read_text())["wandb"]["mode"] == "offline"
    assert [path for path in (folder.parent / "home").rglob("*") if path.is_file()] == []
