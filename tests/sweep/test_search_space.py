"""Overrides and yaml -> a search space."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from watchme.config.overrides import parse_overrides
from watchme.core.errors import ConfigError
from watchme.sweep.search_space import SearchSpace, parse_space
from watchme.sweep.study_differences import differences


def test_sweeps_of_the_command_line() -> None:
    space = parse_space(
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
    assert space.fixed == {"model": "model=yolo11n"}
    assert space.overrides({"optimizer.lr": 0.01, "optimizer": "adam"}) == [
        *("model=yolo11n", "++optimizer.lr=0.01", "optimizer=adam")
    ]
    assert space.grid() is None


def test_the_command_line_beats_the_sweepers_params() -> None:
    params = {"optimizer.lr": "tag(log, interval(0.001, 0.1))", "train.batch_size": [16, 32], "train.seed": 3}
    space = parse_space(params, ["optimizer.lr=0.01", "train.batch_size=64,128"])
    assert dict(space.distributions) == {"train.batch_size": CategoricalDistribution([64, 128])}
    assert sorted(space.fixed.values()) == ["optimizer.lr=0.01", "train.seed=3"]


def test_the_grid_is_in_the_order_of_the_command_line() -> None:
    assert parse_space({}, ["a=1,2", "b=range(0,1.5,0.5)"]).grid() == [
        {"a": a, "b": b} for a in (1, 2) for b in (0.0, 0.5, 1.0)
    ]
    assert parse_space({}, ["a=1"]).grid() == [{}]


def test_what_cannot_be_searched_is_said() -> None:
    for text in ("seed=range(3,3)", "seed=range(1,3,0)", "seed=choice()", "seed=interval(1)"):
        with pytest.raises(ConfigError, match=r"seed"):
            parse_space({}, [text])


# From yaml, as Python values: a comma, spaces, brackets, quotes, what looks like a number, a list, null.
AWKWARD = ["/data/a,b", "/c", "my data (1)", "it's", "[x]", "1", 1.5, True, "true", None, ["a,b", "c"], "${x}", ""]


def test_strings_are_quoted_wherever_hydra_needs_it() -> None:
    space = parse_space({"dataset.root": AWKWARD}, [])
    stored = space.distributions["dataset.root"].choices
    assert list(stored) == [*AWKWARD[:10], "['a,b',c]", "${x}", ""], "the hook sees plain values"
    for index, value in enumerate(AWKWARD):
        (text,) = space.overrides({"dataset.root": stored[index]})
        found = parse_overrides([text])[0].value()
        assert found == value
        assert type(found) is type(value)
    assert SearchSpace({}).overrides({"a": "x,y", "b": "plain"}) == ["a='x,y'", "b=plain"], "a parameter of the hook"


def test_the_command_line_and_yaml_mean_the_same_space() -> None:
    line = parse_space({}, ["a='x,y',z", "b=null,10", "c='1',1"])
    yaml = parse_space({"a": ["x,y", "z"], "b": [None, 10], "c": ["1", 1]}, [])
    assert line == yaml
    assert line.distributions["b"] == CategoricalDistribution([None, 10])


def test_points_to_evaluate_are_stored_as_the_study_stores_them() -> None:
    space = parse_space(
        {"root": AWKWARD, "lr": "tag(log, interval(0.001, 0.1))", "epochs": "range(2,9,3)", "x": "range(0,1.5,0.5)"}, []
    )
    stored = space.distributions["root"].choices
    for index, value in enumerate(AWKWARD):
        assert space.stored("root", value) is stored[index] or space.stored("root", value) == stored[index]
        assert type(space.stored("root", value)) is type(stored[index])
    assert space.stored("lr", 0.1) == 0.1
    assert space.stored("epochs", 5.0) == 5
    assert space.stored("x", 1) == 1
    for name, value in (("root", "/d"), ("lr", 0.2), ("lr", "0.01"), ("epochs", 3), ("x", 0.7), ("epochs", True)):
        with pytest.raises(ValueError, match=r"choice|\.\."):
            space.stored(name, value)


def test_what_makes_two_searches_different() -> None:
    first = parse_space({}, ["a=interval(0.0,1.0)", "b=1", "tracker=wandb", "train.device=0"]).fingerprint()
    assert first == parse_space({}, ["b=1", "a=interval(0.0,1.0)", "tracker.tags=[x]"]).fingerprint()
    second = parse_space({}, ["a=tag(log,interval(0.5,1.0))", "b=2"]).fingerprint()
    first |= {"objectives": ["x"], "directions": [], "custom_search_space": "a.b"}
    second |= {"objectives": ["y"], "directions": [], "custom_search_space": None}
    lines = differences(first, second)
    assert lines == [
        *("a: stored 0.0..1.0, now log 0.5..1.0", "stored only: b=1", "now only: b=2"),
        "objectives: stored ['x'], now ['y']",
        "custom_search_space: stored a.b, now None",
    ]
