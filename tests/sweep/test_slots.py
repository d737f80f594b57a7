"""Slots: no barrier between trials, one GPU each, trials in processes of their own."""

from collections.abc import Callable
from pathlib import Path

from sweep.conftest import Swept
from watchme.sweep import gpus

Sweep = Callable[..., Swept]
PLAIN = ("hydra.sweeper.report=false", "train.epochs=2")


def test_each_slot_sees_its_own_gpu(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "s", "optimizer.lr=0.01,0.02,0.03,0.04", "hydra.sweeper.n_jobs=2", *PLAIN, CUDA_VISIBLE_DEVICES="3,5"
    )
    assert done.code == 0, done.stderr
    seen = {done.manifest(number)["visible_gpus"] for number in range(4)}
    assert seen == {"3", "5"}


def test_gpus_are_shared_out_in_turn() -> None:
    assert gpus.share(["0", "1"], 3) == ["0", "1", "0"]
    assert gpus.share([], 2) == [None, None]
    assert gpus.visible([2, 3]) == ["2", "3"]
    assert gpus.visible("none") == []


def test_a_slow_trial_holds_nobody_up(sweep: Sweep, tmp_path: Path) -> None:
    """While one slot is busy with a long trial, the other runs all the rest."""
    done = sweep(
        tmp_path / "s",
        *("train.epochs=60,2,2,2,2,2", "model.epoch_s=0.05", "hydra.sweeper.n_jobs=2", "hydra.sweeper.report=false"),
    )
    assert done.states == {"COMPLETE": 6}
    slow, *quick = done.trials
    assert slow.params["train.epochs"] == 60
    assert all(trial.datetime_complete < slow.datetime_complete for trial in quick)
    assert {done.manifest(trial.number)["process"] for trial in quick} != {done.manifest(0)["process"]}


def test_a_trial_killed_by_the_system_does_not_take_the_sweep_along(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "s",
        "optimizer.lr=0.01,0.02,0.03",
        "hydra.sweeper.processes=true",
        "model.fault=sigkill",
        "model.fault_trials=[1]",
        *PLAIN,
    )
    assert done.code == 0, done.stderr
    assert [trial.state.name for trial in done.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "SIGKILL" in done.trials[1].user_attrs["reason"]
    assert done.manifest(1)["status"] == "failed"
    assert "SIGKILL" in (done.folder / "1" / "traceback.txt").read_text()
    assert done.manifest(2)["process"] != done.manifest(0)["process"]


def test_two_trials_in_one_process_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(tmp_path / "s", "optimizer.lr=0.01,0.02", "hydra.sweeper.processes=false", "hydra.sweeper.n_jobs=2")
    assert done.code == 2
    assert "hydra.sweeper.processes" in done.stderr
    assert "Traceback" not in done.stderr
