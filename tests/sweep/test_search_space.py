"""Overrides and yaml -> a search space."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from watchme.core.errors import ConfigError
from watchme.sweep.search_space import parse
from watchme.sweep.study_differences import differences


def test_sweeps_of_the_command_line() -> None:
    space = parse(
        {},
        [
            "++optimizer.lr=tag(log, interval(1e-4, 1e-1))",
            *("train.batch_size=16,32", "optimizer=choice(sgd,adam)", "train.epochs=range(2,9,3)"),
            *("scheduler.gamma=interval(0.1,0.5)", "model=yolo11n", "dataset.classes=[a],[b,c]"),
        ],
    )
    assert space.distributions == {
        "optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True),
        "train.batch_size": CategoricalDistribution([16, 32]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "train.epochs": IntDistribution(2, 8, step=3),
        "scheduler.gamma": FloatDistribution(0.1, 0.5),
        "dataset.classes": CategoricalDistribution(["[a]", "[b,c]"]),
    }
    assert space.fixed == ["model=yolo11n"]
    assert space.overrides({"optimizer.lr": 0.01, "optimizer": "adam"}) == [
        *("model=yolo11n", "++optimizer.lr=0.01", "optimizer=adam")
    ]
    assert space.grid() is None


def test_the_command_line_beats_the_sweepers_params() -> None:
    params = {"optimizer.lr": "tag(log, interval(0.001, 0.1))", "train.batch_size": [16, 32], "train.seed": 3}
    space = parse(params, ["optimizer.lr=0.01", "train.batch_size=64,128"])
    assert dict(space.distributions) == {"train.batch_size": CategoricalDistribution([64, 128])}
    assert sorted(space.fixed) == ["optimizer.lr=0.01", "train.seed=3"]


def test_the_grid_is_in_the_order_of_the_command_line() -> None:
    assert parse({}, ["a=1,2", "b=range(0,1.5,0.5)"]).grid() == [
        {"a": a, "b": b} for a in (1, 2) for b in (0.0, 0.5, 1.0)
    ]
    assert parse({}, ["a=1"]).grid() == [{}]


def test_what_cannot_be_searched_is_said() -> None:
    with pytest.raises(ConfigError, match=r"experiment = glob"):
        parse({}, ["experiment=glob(*)"])


def test_what_makes_two_searches_different() -> None:
    first = parse({}, ["a=interval(0.0,1.0)", "b=1", "tracker=wandb", "train.device=0"]).fingerprint()
    assert first == parse({}, ["b=1", "a=interval(0.0,1.0)", "tracker.tags=[x]"]).fingerprint()
    second = parse({}, ["a=tag(log,interval(0.5,1.0))", "b=2"]).fingerprint()
    told = differences(
        {**first, "objectives": ["x"], "directions": []}, {**second, "objectives": ["y"], "directions": []}
    )
    assert told == [
        *("a: stored 0.0..1.0, now log 0.5..1.0", "stored only: b=1", "now only: b=2"),
        "objectives: stored ['x'], now ['y']",
    ]
