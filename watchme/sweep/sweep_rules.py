"""Rules of a sweep: which settings do not fit together, and whether the configs of its trials are valid."""

from collections.abc import Sequence
from typing import Any

import optuna
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler

from watchme.config.image_size import with_image_size
from watchme.config.overrides import unresolved
from watchme.config.schema import RunConfig
from watchme.config.suggestions import one_of
from watchme.config.validation import validate
from watchme.core.errors import ConfigError, Problem
from watchme.run.provenance import initial_weights
from watchme.sweep.hooks import Hook
from watchme.sweep.search_space import SearchSpace, listed
from watchme.sweep.settings import SweepConfig

_MOST_CHECKS = 16
_KEY = "hydra.sweeper"


def search_problems(
    settings: SweepConfig, space: SearchSpace, objectives: Sequence[str], directions: Sequence[str]
) -> list[Problem]:
    problems = []
    if settings.sampler == "grid" and space.grid() is None:
        expected = "a grid needs listed values: a,b,c or range(a,b,step)"
        problems += [
            Problem(name, expected, str(found)) for name, found in space.distributions.items() if listed(found) is None
        ]
    if len(objectives) > 1 and settings.pruner != "none":
        expected = "pruning needs one objective; set pruner=none, or leave one in hydra.sweeper.objectives"
        problems.append(Problem(f"{_KEY}.pruner", expected, settings.pruner))
    if len(directions) != len(objectives):
        expected = f"expected {len(objectives)}, one for each of {', '.join(objectives)}"
        problems.append(Problem(f"{_KEY}.directions", expected, str(list(directions))))
    return problems


def first_points(settings: SweepConfig, space: SearchSpace) -> tuple[list[dict[str, Any]], list[Problem]]:
    """`hydra.sweeper.points_to_evaluate` as the study stores it, and what is wrong with it."""
    key, known, problems = f"{_KEY}.points_to_evaluate", sorted(space.distributions), []
    points: list[dict[str, Any]] = []
    for index, point in enumerate(settings.points_to_evaluate):
        points.append({})
        for name, value in point.items():
            if name not in known and settings.custom_search_space is None:
                problems.append(Problem(key, one_of(name, known), str(name)))
                continue
            try:
                points[-1][name] = space.stored(name, value)
            except ValueError as error:
                problems.append(Problem(f"{key}[{index}]", f"{name}: expected a value in {error}", repr(value)))
    return points, problems


def test_split_problems(settings: SweepConfig, typed: RunConfig, objectives: Sequence[str]) -> list[Problem]:
    """A search that selects on the test split invalidates its own result, so it must be asked for explicitly."""
    if settings.tune_on_test:
        return []
    advice = f"would tune on the test split; its result would then prove nothing. {_KEY}.tune_on_test=true allows it"
    problems = [Problem(f"{_KEY}.objectives", advice, name) for name in objectives if name.startswith("test/")]
    if getattr(typed.dataset, "select_on_test", False):
        problems.append(Problem("dataset.select_on_test", advice, "true"))
    if typed.mode == "evaluate" and getattr(typed.evaluation, "split", None) not in ("val", "train"):
        hint = "; evaluation.split=val does not" if hasattr(typed.evaluation, "split") else ""
        problems.append(Problem("mode", advice + hint, "evaluate"))
    return problems


def validate_choices(
    settings: SweepConfig, space: SearchSpace, hook: Hook | None, context: HydraContext, config: DictConfig
) -> tuple[RunConfig, DictConfig]:
    """Compose and validate points of the space that hold each of its choices; returns the first point's config.

    Weights that the trials start from are fetched.
    """
    base = {
        name: found.choices[0] if isinstance(found, CategoricalDistribution) else getattr(found, "low")  # noqa: B009
        for name, found in space.distributions.items()
    }
    points = [base]
    for name, found in space.distributions.items():
        if isinstance(found, CategoricalDistribution):
            points += [{**base, name: choice} for choice in found.choices[1:]]
    problems: dict[tuple[str, str], Problem] = {}
    results: list[tuple[RunConfig, DictConfig]] = []
    for point in points[:_MOST_CHECKS]:
        try:
            composed = compose_trial(context, config, space.overrides(_with_hook(space, hook, config, point)))
            _refuse_other_engine(settings, composed, context)
            job = with_image_size(composed, unresolved(composed.hydra.overrides.task)).copy()
            with open_dict(job):
                del job["hydra"]
            results.append((validate(job), composed))
        except ConfigError as error:
            problems |= {(problem.key, problem.expected): problem for problem in error.problems}
    if problems:
        raise ConfigError(list(problems.values()))
    for typed, _ in results:  # once and here, rather than in the first trials
        initial_weights(typed)
    return results[0]


def _refuse_other_engine(settings: SweepConfig, composed: DictConfig, context: HydraContext) -> None:
    engine = OmegaConf.select(composed, "model.engine")
    if settings.model_engine in (None, engine):
        return
    sweeper = OmegaConf.select(composed, "hydra.runtime.choices.sweeper")
    advice = (
        f"its search space is for models of {settings.model_engine}, and model={composed.model.name} is one of {engine}"
    )
    if f"{engine}_tune" in context.config_loader.get_group_options("sweeper"):
        advice += f": take sweeper={engine}_tune"
    raise ConfigError(
        [Problem("sweeper", f"{advice}, or set {_KEY}.model_engine=null to search this space", str(sweeper))]
    )


def _with_hook(space: SearchSpace, hook: Hook | None, config: DictConfig, point: dict[str, Any]) -> dict[str, Any]:
    """A point with the parameters that the hook draws for it, in a study that is not stored."""
    if hook is None:
        return point
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.enqueue_trial(point)
    trial = study.ask(dict(space.distributions))
    try:
        hook(config, trial)
    except Exception as error:  # of a user's function
        expected = f"raised {type(error).__name__} for {point}: {error}"
        raise ConfigError([Problem(f"{_KEY}.custom_search_space", expected)]) from None
    return dict(trial.params)


def compose_trial(context: HydraContext, config: DictConfig, overrides: list[str]) -> DictConfig:
    try:
        return context.config_loader.load_sweep_config(config, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        text = "\n".join(line for line in str(error).splitlines() if line.strip())
        raise ConfigError([Problem("overrides", text, " ".join(overrides))]) from None
