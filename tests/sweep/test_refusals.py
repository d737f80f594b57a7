"""What a sweep refuses before anything is stored: in one message, with the key and the fix, and exit status 2."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.conftest import PROJECT, Swept
from watchme.cli import command_line as cli
from watchme.config.validation import fields_of, validate_section
from watchme.core.errors import ConfigError
from watchme.sweep.samplers import make_pruner, make_sampler
from watchme.sweep.settings import SweepConfig

Sweep = Callable[..., Swept]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["objective=test/map"], ["hydra.sweeper.objectives = test/map", "hydra.sweeper.tune_on_test=true"]),
        (["mode=evaluate"], ["mode = evaluate", "tune on the test split"]),
        (
            ["hydra.sweeper.objectives=[val/map,val/rank1]", "hydra.sweeper.pruner=asha"],
            ["hydra.sweeper.pruner", "one objective"],
        ),
        (["hydra.sweeper.n_trails=3", "hydra.sweeper.pruner=ashe"], ["did you mean hydra.sweeper.n_trials?"]),
        (["hydra.sweeper.sampler=grid", "optimizer.momentum=interval(0.1,0.2)"], ["needs listed values"]),
        (["optimizer.momentum=0.5,2.5"], ["optimizer.momentum = 2.5", "expected a number >= 0 and < 1"]),
        (["hydra.sweeper.pruner=asha", "hydra.sweeper.pruner_options.rungs=3"], ["unknown key", "min_resource"]),
        (["hydra.sweeper.custom_search_space=nowhere.at_all"], ["hydra.sweeper.custom_search_space"]),
        (["hydra.sweeper.storage=redis://here"], ["hydra.sweeper.storage", "postgresql://"]),
        (["sweeper=osnet_tune"], ["sweeper = osnet_tune", "for models of osnet", "model_engine=null"]),
        (
            ["hydra.sweeper.points_to_evaluate=[{optimizer.lr: 0.5}, {optimizer.lt: 1}]"],
            ["points_to_evaluate[0] = 0.5", "optimizer.lr: expected a value in choice(0.01,0.02)", "optimizer.lr?"],
        ),
        (["hydra.sweeper.custom_search_space=sweep_hooks.raises"], ["custom_search_space", "raised KeyError"]),
    ],
)  # fmt: skip
def test_refused(arguments: list[str], expected: list[str], sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(tmp_path / "s", "optimizer.lr=0.01,0.02", *arguments)
    assert done.code == 2, done.stderr
    for text in expected:
        assert text in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s" / "study.db").exists()


def test_the_test_split_can_be_asked_for_by_name(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "s",
        *("mode=evaluate", "evaluation.confidence=0.1,0.2", "hydra.sweeper.tune_on_test=true"),
        "hydra.sweeper.report=false",
    )
    assert done.code == 0, done.stderr
    assert [trial.value for trial in done.trials] == [0.5, 0.5]


def test_a_sweeper_without_m_is_refused(train: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    done = train("model=standin", "sweeper=standin_tune")
    assert done.returncode == 2
    assert "python train.py -m" in done.stderr
    assert train("model=standin", "sweeper=standin_tune", "--cfg", "job").returncode == 0


def test_yaml_and_dataclass_have_the_same_keys_and_defaults() -> None:
    import yaml

    given = yaml.safe_load((PROJECT / "conf" / "hydra" / "sweeper" / "watchme.yaml").read_text())
    given.pop("_target_")
    assert list(given) == list(fields_of(SweepConfig))
    assert validate_section(SweepConfig, given, "hydra.sweeper") == SweepConfig()


@pytest.mark.parametrize("name", ["grid", "tpe", "random", "cmaes", "nsgaii", "gp"])
def test_every_sampler_can_be_made(name: str) -> None:
    assert make_sampler(name, {}, 0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("none", {}), ("median", {"n_startup_trials": 3}), ("asha", {}), ("hyperband", {})),
        ("threshold", {"lower": 0.1}),
        *(("patient", {}), ("patient", {"wrapped": "median", "wrapped_options": {"n_warmup_steps": 2}, "patience": 4})),
    ],
)
def test_every_pruner_can_be_made(name: str, options: dict[str, object]) -> None:
    assert make_pruner(name, options, 50)


def test_a_pruner_that_lacks_what_it_needs_is_refused() -> None:
    with pytest.raises(ConfigError, match="lower, upper or both"):
        make_pruner("threshold", {}, 50)


def test_an_unknown_key_of_the_sweeper_reaches_our_own_check() -> None:
    assert cli.prepare(["-m", "hydra.sweeper.n_trails=3"]) == ["-m", "++hydra.sweeper.n_trails=3"]


@pytest.mark.parametrize(
    "where", ["hydra.sweep.dir={file}", "hydra.sweep.dir={long}", "hydra.sweeper.storage={file}/a.db"]
)
def test_a_path_that_the_system_refuses_is_named(where: str, sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = sweep(tmp_path / "s", "optimizer.lr=0.1,0.2", where.format(file=tmp_path / "file", long="x" * 300))
    assert done.code == 2
    assert "cannot be used: " in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
