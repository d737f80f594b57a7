"""Where trials are: `hydra.sweep.subdir`, Hydra's override_dirname, and a study with two sweep folders."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

from sweep.conftest import Swept

Sweep = Callable[..., Swept]


def test_subdir_names_the_folders_of_trials(sweep: Sweep, tmp_path: Path) -> None:
    command = (
        *("optimizer=glob(ad*)", "train.batch_size=shuffle(16,32)", "train.epochs=1", "tracker.notes='a, b'"),
        *("hydra.sweep.subdir=${hydra.job.override_dirname}", "hydra.sweeper.n_trials=3"),
    )
    first = sweep(tmp_path / "s", *command)
    assert first.code == 0, first.stderr
    names = {path.parent.name for path in (tmp_path / "s").glob("*/run.json")}
    assert len(names) == 3
    assert all("optimizer=ada" in name and "trial" not in name and "storage" not in name for name in names)
    rows = list(csv.DictReader((tmp_path / "s" / "leaderboard.csv").open()))
    assert {row["folder"] for row in rows} == names
    assert all((tmp_path / "s" / name / "console.log").is_file() for name in names), "the log is in the same folder"
    page = (tmp_path / "s" / "report" / "index.html").read_text()
    assert len(re.findall(r'href="[^"]*report.html"', page)) >= 3
    rest = sweep(tmp_path / "s", *command[:-1])
    assert rest.code == 0, rest.stderr
    assert "3 trials are stored, resuming" in rest.stdout, "glob(*) and shuffle() mean the same space again"
    assert rest.states["COMPLETE"] == len(list((tmp_path / "s").glob("*/run.json"))) > 3


def test_a_folder_that_is_taken_gets_the_trials_number(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(tmp_path / "s", "train.seed=1,2", "train.epochs=1", "hydra.sweep.subdir=all/here")
    assert done.code == 0, done.stderr
    assert sorted(str(path.parent.relative_to(tmp_path / "s")) for path in (tmp_path / "s").rglob("run.json")) == [
        *("all/here", "all/here-1")
    ]


def test_a_second_sweep_folder_of_a_study_names_folders_that_are_there(sweep: Sweep, tmp_path: Path) -> None:
    command = (
        "train.seed=1,2,3",
        "train.epochs=1",
        "hydra.sweeper.study_name=s",
        f"hydra.sweeper.storage={tmp_path}/s.db",
    )
    sweep(tmp_path / "one", *command, "hydra.sweeper.n_trials=2")
    second = sweep(tmp_path / "two", *command)
    assert second.code == 0, second.stderr
    rows = list(csv.DictReader((tmp_path / "two" / "leaderboard.csv").open()))
    assert sorted(row["folder"] for row in rows) == ["../one/0", "../one/1", "2"]
    assert all((tmp_path / "two" / row["folder"] / "run.json").is_file() for row in rows)
    line = next(line for line in second.stdout.splitlines() if line.strip().startswith("best trial"))
    assert (tmp_path / "two" / line.split(" in ")[1] / "run.json").is_file() or Path(line.split(" in ")[1]).is_dir()
