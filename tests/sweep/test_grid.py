"""`python train.py -m a=1,2 b=3,4`: a grid that is stored, resumable and never overwritten."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.conftest import Swept

Sweep = Callable[..., Swept]
GRID = ("optimizer.lr=0.001,0.01,0.1", "train.batch_size=16,32,64", "hydra.sweeper.report=false")


@pytest.fixture(scope="module")
def grid(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The guide's manual grid."""
    done = sweep(tmp_path_factory.mktemp("grid") / "sweep", *GRID)
    assert done.code == 0, done.stderr
    return done


def test_every_point_once_in_the_order_of_the_command_line(grid: Swept) -> None:
    points = [(trial.params["optimizer.lr"], trial.params["train.batch_size"]) for trial in grid.trials]
    assert points == [(lr, batch) for lr in (0.001, 0.01, 0.1) for batch in (16, 32, 64)]
    assert grid.states == {"COMPLETE": 9}
    assert [grid.manifest(number)["status"] for number in range(9)] == ["finished"] * 9


def test_embedded_storage_leaderboard_and_last_line(grid: Swept) -> None:
    assert (grid.folder / "study.db").is_file()
    rows = list(csv.DictReader((grid.folder / "leaderboard.csv").open()))
    assert len(rows) == 9
    values = [float(row["val/map"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert rows[0]["optimizer.lr"] == "0.01"
    assert rows[0]["rank"] == "1"
    assert grid.stdout.strip().splitlines()[-1] == str(grid.folder)


def test_run_again_runs_nothing_and_overwrites_nothing(grid: Swept, sweep: Sweep) -> None:
    before = {path: path.read_bytes() for path in grid.folder.glob("*/run.json")}
    again = sweep(grid.folder, *GRID)
    assert again.code == 0, again.stderr
    assert "9 trials are stored, resuming" in again.stdout
    assert again.states == {"COMPLETE": 9}
    assert {path: path.read_bytes() for path in grid.folder.glob("*/run.json")} == before


def test_another_search_in_the_same_folder_is_refused(grid: Swept, sweep: Sweep) -> None:
    other = sweep(grid.folder, "optimizer.lr=0.001,0.02", "hydra.sweeper.report=false")
    assert other.code == 2
    assert "hydra.sweep.dir" in other.stderr
    assert "Traceback" not in other.stderr
    name = next(line for line in grid.stdout.splitlines() if line.startswith("Study")).split()[1]
    named = sweep(grid.folder, "optimizer.lr=0.001,0.02", f"hydra.sweeper.study_name={name}", "train.epochs=9")
    assert named.code == 2
    assert "optimizer.lr: stored choice(0.001,0.01,0.1), now choice(0.001,0.02)" in named.stderr
    assert "train.batch_size: stored choice(16,32,64), now not searched" in named.stderr
    assert "now only: train.epochs=9" in named.stderr
    assert len(grid.trials) == 9


def test_the_default_folder_is_the_studys_so_that_the_same_command_goes_on(
    train: Callable[..., object], project: Path
) -> None:
    command = ("-m", "model=standin", "optimizer.lr=0.001,0.01", "hydra.sweeper.report=false")
    for _ in range(2):
        train(*command)
    (folder,) = (project / "outputs" / "sweeps").glob("grid-standin-nowhere-*")
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == ["0", "1"]
    train(*command, "train.epochs=2")
    assert len(list((project / "outputs" / "sweeps").glob("grid-standin-nowhere-*"))) == 2


def test_a_grid_that_was_cut_off_goes_on_at_its_next_point(sweep: Sweep, tmp_path: Path) -> None:
    first = sweep(tmp_path / "s", *GRID, "hydra.sweeper.n_trials=4")
    assert len(first.trials) == 4
    rest = sweep(tmp_path / "s", *GRID)
    assert rest.states == {"COMPLETE": 9}
    assert len({tuple(trial.params.values()) for trial in rest.trials}) == 9


def test_lists_groups_and_text_as_values(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(tmp_path / "s", "optimizer=sgd,adam", "tracker.tags=[a],[b,c]", "tracker.notes='x y'")
    assert done.code == 0, done.stderr
    assert len(done.trials) == 4
    assert "name: adam" in (done.folder / "3" / "config.yaml").read_text()
    assert "- c" in (done.folder / "3" / "config.yaml").read_text()
    assert (done.folder / "report" / "index.html").is_file()
