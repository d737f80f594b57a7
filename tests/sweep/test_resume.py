"""A sweep that is killed goes on where it was, with exactly the trials that are missing."""

import functools
import math
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from sweep.conftest import Swept, states, trials_of
from sweep.test_failures import wait_for, wait_until
from watchme.sweep.heartbeats import OWNER
from watchme.sweep.search_space import SearchSpace
from watchme.sweep.study import SweepStudy
from watchme.sweep.trial_outcome import Outcome
from watchme.sweep.trial_states import MEASURED

Sweep = Callable[..., Swept]
Begin = Callable[..., "subprocess.Popen[str]"]


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL, to the sweep alone: its workers have to notice."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_killed_grid_neither_repeats_nor_loses_a_point(begin: Begin, sweep: Sweep, tmp_path: Path) -> None:
    command = ("optimizer.lr=0.001,0.01,0.1", "train.batch_size=16,32", "hydra.sweeper.report=false")
    process = begin(tmp_path / "s", *command, "model.epoch_s=0.2")
    wait_for(tmp_path / "s" / "1" / "metrics.jsonl", process)
    kill(process)
    assert states(trials_of(tmp_path / "s")) == {"COMPLETE": 1, "RUNNING": 1}
    before = (tmp_path / "s" / "1" / "metrics.jsonl").read_bytes()
    done = sweep(tmp_path / "s", *command, "model.epoch_s=0.2")
    assert done.code == 0, done.stderr
    assert done.states == {"COMPLETE": 6, "LOST": 1}
    points = [tuple(trial.params.values()) for trial in done.trials if trial.state == TrialState.COMPLETE]
    assert len(set(points)) == 6
    assert (tmp_path / "s" / "1" / "metrics.jsonl").read_bytes() == before, "its folder stays as it was"
    assert done.manifest(1)["status"] == "failed"
    (retry,) = [trial for trial in done.trials if "retry_of" in trial.user_attrs]
    assert retry.user_attrs["retry_of"] == 1
    assert retry.params == done.trials[1].params


def has_begun(folder: Path, known: int) -> bool:
    """Whether another trial has begun."""
    return len(list(folder.glob("*/run.json"))) > known


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 2])
def test_killed_ten_times_it_ends_with_exactly_n_trials(slots: int, begin: Begin, sweep: Sweep, tmp_path: Path) -> None:
    chance = random.Random(slots)
    command = (
        *("sweeper=standin_tune", "train.epochs=9", "model.epoch_s=0.03", "hydra.sweeper.report=false"),
        *("hydra.sweeper.n_trials=24", f"hydra.sweeper.n_jobs={slots}"),
    )
    for turn in range(10):
        known = len(list((tmp_path / "s").glob("*/run.json")))
        process = begin(tmp_path / "s", *command)
        if turn % 2:  # in a trial, as surely as a busy machine lets it
            wait_until(functools.partial(has_begun, tmp_path / "s", known), process)
        try:
            process.wait(chance.uniform(0.0, 0.2) if turn % 2 else chance.uniform(0.5, 6.0))
        except subprocess.TimeoutExpired:
            kill(process)
    done = sweep(tmp_path / "s", *command)
    assert done.code == 0, done.stderr
    found = done.states
    assert found["COMPLETE"] + found["PRUNED"] == 24
    assert set(found) <= {"COMPLETE", "PRUNED", "LOST"}
    assert found.get("LOST", 0) >= 1, "the test did kill trials"  # by chance, others are killed between two
    assert len({trial.number for trial in done.trials}) == len(done.trials)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Callable[..., SweepStudy]]:
    """`study(n_trials)`: another process's hold on one and the same study."""
    path = tmp_path / "study.db"

    def hold(n_trials: int = 3, grid: bool = False) -> SweepStudy:
        space = SearchSpace({"lr": FloatDistribution(0.1, 0.3, step=0.1 if grid else None)})
        return SweepStudy(
            storage=optuna.storages.RDBStorage(f"sqlite:///{path}"),
            name="s",
            directions=["maximize"],
            identity={**space.fingerprint(), "objectives": [], "directions": [], "custom_search_space": None},
            space=space,
            hook=None,
            config=None,
            sampler=lambda number: RandomSampler(seed=number),
            n_trials=n_trials,
            grid=space.grid() if grid else None,
            turn=nullcontext,
            grace_s=0.0,
        )

    return hold  # type: ignore[return-value]


def test_a_trial_whose_objective_was_never_defined_says_so(study: Callable[..., SweepStudy]) -> None:
    """It was said to have measured another objective, and advised to search other datasets."""
    here = study(3)
    for value, reason in ((0.5, ""), (math.nan, "the objective is undefined (NaN)")):
        claim = here.claim()
        assert claim is not None
        if not reason:  # it reported an epoch; NaN is never reported
            here.storage.set_trial_user_attr(claim.trial_id, MEASURED, ["val/map"])
        assert here.finish(claim, Outcome([value])).user_attrs.get("reason", "") == reason


def pretend_other_machine(study: SweepStudy, trial_id: int) -> None:
    """Make a running trial one of a machine whose processes cannot be seen from here."""
    study.storage.set_trial_system_attr(trial_id, OWNER, {"machine": "elsewhere", "pid": 1, "started": "1"})


def test_a_silent_machines_trial_is_tried_once_more_and_then_not_again(study: Callable[..., SweepStudy]) -> None:
    here, there = study(2), study(2)
    params = []
    for _ in range(2):
        trial = there.claim()
        assert trial is not None
        params.append(trial.params)
        pretend_other_machine(there, trial.trial_id)
        there._running.clear()
        assert [found.state for found in here._recover()][-1] == TrialState.RUNNING, "first its silence is noticed"
        here._recover()
    assert params[0] == params[1], "the second is the retry of the first"
    third = here.claim()
    assert third is not None
    assert third.params != params[0], "lost twice: its share of the budget goes to another point"
    assert states(here.trials()) == {"LOST": 2, "RUNNING": 1}
    assert here.lost == [0, 1]


def test_a_beating_trial_of_another_machine_is_left_alone(study: Callable[..., SweepStudy]) -> None:
    here, there = study(2), study(2)
    trial = there.claim()
    assert trial is not None
    pretend_other_machine(there, trial.trial_id)
    for _ in range(4):
        there.beat()
        assert here._recover()[0].state == TrialState.RUNNING


def test_a_point_of_a_grid_is_never_given_up(study: Callable[..., SweepStudy]) -> None:
    here, there = study(3, grid=True), study(3, grid=True)
    for _ in range(3):
        trial = there.claim()
        assert trial is not None
        assert trial.params == {"lr": 0.1}
        pretend_other_machine(there, trial.trial_id)
        there._running.clear()
        here._recover()
        here._recover()
    points = []
    while (trial := here.claim()) is not None:
        points.append(trial.params["lr"])
        here.finish(trial, Outcome([0.5]))
    assert sorted(points) == pytest.approx([0.1, 0.2, 0.3])
    assert here.is_over()


def test_a_trial_that_was_given_up_stays_so(study: Callable[..., SweepStudy]) -> None:
    here, there = study(1), study(1)
    trial = there.claim()
    assert trial is not None
    pretend_other_machine(there, trial.trial_id)
    here._recover()
    here._recover()
    assert there.finish(trial, Outcome([0.9])).state == TrialState.FAIL
    retry = here.claim()
    assert retry is not None
    assert here.finish(retry, Outcome([0.8])).value == 0.8
    assert here.claim() is None
