"""Trials that are not worth their time end early, and everything that they reported is kept."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweep.conftest import Swept

Sweep = Callable[..., Swept]
SEARCH = (
    "sweeper=standin_tune",
    "train.epochs=9",
    "hydra.sweeper.seed=3",
    "hydra.sweeper.report=false",
)


@pytest.fixture(scope="module")
def pruned(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The guide's search on the stand-in: twelve trials, two slots."""
    done = sweep(
        tmp_path_factory.mktemp("pruned") / "s",
        *SEARCH,
        "hydra.sweeper.n_trials=12",
        "hydra.sweeper.n_jobs=2",
        "model.waits_for=1",
    )
    assert done.code == 0, done.stderr
    return done


def test_the_guides_search_space(pruned: Swept) -> None:
    found = pruned.trials[0].distributions
    assert (found["optimizer.lr"].low, found["optimizer.lr"].high, found["optimizer.lr"].log) == (1e-4, 0.1, True)
    assert found["train.batch_size"].choices == (16, 32, 64)
    assert found["optimizer"].choices == ("sgd", "adam", "adamw")
    assert (found["optimizer.weight_decay"].low, found["optimizer.weight_decay"].high) == (1e-4, 1e-3)
    assert (found["optimizer.momentum"].low, found["optimizer.momentum"].high) == (0.8, 0.95)


def test_pruned_trials_keep_their_values_and_their_folder_says_so(pruned: Swept) -> None:
    assert pruned.states["PRUNED"] >= 3
    assert pruned.states["COMPLETE"] >= 1
    assert sum(pruned.states.values()) == 12
    for trial in pruned.trials:
        lines = (pruned.folder / str(trial.number) / "metrics.jsonl").read_text().splitlines()
        shown = {line["epoch"]: line["val/map"] for line in map(json.loads, lines)}
        assert trial.intermediate_values == pytest.approx(shown)
        manifest = pruned.manifest(trial.number)
        if trial.state == TrialState.PRUNED:
            assert trial.last_step is not None
            assert trial.last_step < 9
            assert trial.user_attrs["pruned_at"] == trial.last_step
            assert manifest["status"] == "pruned"
            assert manifest["stopped"]["kind"] == "pruned"
            assert (pruned.folder / str(trial.number) / "weights" / "best.pt").is_file()
        else:
            assert trial.last_step == 9
            assert manifest["status"] == "finished"


def test_weights_of_pruned_trials_can_be_deleted(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "s",
        "optimizer.lr=0.01,0.0001",
        "train.epochs=9",
        "hydra.sweeper.pruner=threshold",
        "hydra.sweeper.pruner_options.lower=0.2",
        "hydra.sweeper.pruner_options.n_warmup_steps=2",
        "hydra.sweeper.keep_pruned_weights=false",
        "hydra.sweeper.report=false",
    )
    assert done.states == {"COMPLETE": 1, "PRUNED": 1}
    assert (done.folder / "0" / "weights" / "best.pt").is_file()
    assert not (done.folder / "1" / "weights" / "best.pt").exists()


def test_two_slots_are_two_processes_and_share_the_cores(pruned: Swept) -> None:
    processes = {pruned.manifest(number)["pid"] for number in range(12)}
    assert len(processes) == 2
    assert all(pruned.manifest(number)["threads"] is not None for number in range(12))


def test_a_seeded_search_draws_the_same_when_it_was_cut_in_two(sweep: Sweep, tmp_path: Path) -> None:
    options = (
        "sweeper=standin_tune",
        "hydra.sweeper.sampler=random",
        "hydra.sweeper.seed=5",
        "hydra.sweeper.report=false",
    )
    whole = sweep(tmp_path / "whole", *options, "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=none")
    sweep(tmp_path / "cut", *options, "hydra.sweeper.n_trials=2", "hydra.sweeper.pruner=none")
    cut = sweep(tmp_path / "cut", *options, "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=none")
    assert [trial.params for trial in whole.trials] == [trial.params for trial in cut.trials]
    assert len({trial.params["optimizer.lr"] for trial in whole.trials}) == 4
