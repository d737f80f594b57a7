"""Hydra's sweep syntax -> Optuna distributions, against Hydra's own Optuna sweeper; glob(*) and shuffle()."""

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from optuna.distributions import CategoricalDistribution

from sweep.conftest import PROJECT
from watchme.config.overrides import parse_overrides
from watchme.sweep.search_space import parse_space
from watchme.sweep.sweep_override import read_sweep

_SAME = (
    "a=interval(0.1,0.5)",
    "a=interval(1,8)",
    "a=tag(log,interval(1,8))",
    "++a=tag(log,interval(0.0001,0.1))",
    "a=int(interval(1.0,8.0))",
    "a=range(2,9,3)",
    "a=range(9,2,-3)",
    "a=range(0,1.5,0.5)",
    "a=range(0.1,0.4,0.1)",
    "a=1,2,3",
    "a=choice(x,y)",
    "a=sort(3,1,2)",
    "a=float(range(1,4))",
    "a=[1,2],[3]",
    "a={x:1},{x:2}",
    "a=true,false",
)


@pytest.mark.parametrize("text", _SAME)
def test_as_hydras_optuna_sweeper_reads_it(text: str) -> None:
    reference = pytest.importorskip("hydra_plugins.hydra_optuna_sweeper._impl")
    expected, _, _ = reference.create_params_from_overrides([text])
    found = read_sweep(parse_overrides([text])[0])
    assert found is not None
    assert {found.key: found.distribution} == expected


def test_values_that_are_not_swept() -> None:
    for text in ("a=1", "a=[1,2]", "~a", "a='x,y'"):
        assert read_sweep(parse_overrides([text])[0]) is None


def test_glob_lists_the_options_of_a_group() -> None:
    with initialize_config_dir(str(PROJECT / "conf")):
        loader = GlobalHydra.instance().config_loader()
        space = parse_space({}, ["optimizer=glob([a*,sgd],exclude=[*w,a*o,ams*])"], loader)
        assert space.distributions == {"optimizer": CategoricalDistribution(["adam", "sgd"])}
        assert space.overrides({"optimizer": "sgd"}) == ["optimizer=sgd"]


def test_the_same_shuffle_has_the_same_order() -> None:
    command = [f"a=shuffle({','.join(map(str, range(20)))})", "b=shuffle(range(0,9))"]
    first = parse_space({}, command)
    assert first.distributions == parse_space({}, command).distributions, "the same command resumes"
    assert list(first.distributions["a"].choices) != list(range(20))
    assert sorted(first.distributions["a"].choices) == list(range(20))
    assert sorted(first.distributions["b"].choices) == list(range(9))
    assert parse_space({}, command, seed=1).distributions != parse_space({}, command, seed=2).distributions
