"""Optuna's samplers and pruners by their names in the config."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from watchme.config.suggestions import unknown_key
from watchme.core.errors import ConfigError, Problem

_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "grid": optuna.samplers.RandomSampler,  # study.py assigns the points; this draws the parameters of a hook
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "gp": optuna.samplers.GPSampler,
}
_PRUNERS: dict[str, Callable[..., BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "patient": optuna.pruners.PatientPruner,
}
# TPE counts a running trial as a bad one, so that two slots do not draw the same point, and draws parameters
# together, so that optimizer and learning rate are seen as the pair they are; in groups, as some are conditional.
_SAMPLER_DEFAULTS: dict[str, dict[str, Any]] = {
    "tpe": {"constant_liar": True, "multivariate": True, "group": True},
    "cmaes": {"warn_independent_sampling": False},
    "gp": {"warn_independent_sampling": False},
}


def make_sampler(name: str, options: Mapping[str, Any], seed: int | None) -> BaseSampler:
    """Build a sampler.

    Raises:
        ConfigError: If an option is not one of the sampler's, or its package is not installed.
    """
    given = {**_SAMPLER_DEFAULTS.get(name, {}), "seed": seed, **options}
    return _build("sampler", name, _SAMPLERS[name], given, set(options))


def make_pruner(name: str, options: Mapping[str, Any], epochs: int) -> BasePruner:
    """Build a pruner; `train.epochs` are its steps, the most that a trial can use.

    `options` are arguments of Optuna's class; `patient` also takes `wrapped`, the name of another pruner, and
    `wrapped_options`.

    Raises:
        ConfigError: If an option is not one of the pruner's, or one that it needs is missing.
    """
    given = dict(options)
    if name == "asha":
        # Rungs at a sixth and at half of the epochs, each keeps the better third. Earlier ones mislead: trained from
        # scratch, an OSNet falls below its random weights first, and rates that learn fall farthest.
        given = {"min_resource": max(1, epochs // 6), "reduction_factor": 3, **given}
    elif name == "hyperband":
        given = {"min_resource": 1, "max_resource": max(1, epochs), "reduction_factor": 3, **given}
    elif name == "patient":
        wrapped = given.pop("wrapped", None)
        inner_options = given.pop("wrapped_options", {})
        given["wrapped_pruner"] = None if wrapped in (None, "none") else make_pruner(wrapped, inner_options, epochs)
        given.setdefault("patience", max(1, epochs // 5))
    if name == "threshold" and not {"lower", "upper"} & set(given):
        raise ConfigError([Problem("hydra.sweeper.pruner_options", "pruner=threshold needs lower, upper or both")])
    return _build("pruner", name, _PRUNERS[name], given, set(options))


def _build(kind: str, name: str, cls: Callable[..., Any], given: dict[str, Any], chosen: set[str]) -> Any:
    known = list(inspect.signature(cls).parameters)
    key = f"hydra.sweeper.{kind}_options"
    unknown = sorted(option for option in chosen if option not in known and not option.startswith("wrapped"))
    if unknown:
        raise ConfigError([Problem(f"{key}.{one}", unknown_key(one, key, known), repr(given[one])) for one in unknown])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return cls(**{option: value for option, value in given.items() if option in known})
    except ImportError as error:
        missing = getattr(error, "name", None) or str(error).splitlines()[0]
        raise ConfigError(
            [Problem(f"hydra.sweeper.{kind}", f"needs the package {missing}: pip install {missing}", name)]
        ) from None
    except (ValueError, TypeError) as error:
        raise ConfigError([Problem(key, f"{kind}={name} refuses them: {error}", str(dict(given)))]) from None
