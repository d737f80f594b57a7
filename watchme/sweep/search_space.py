"""Overrides -> what is searched and what is fixed."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_method
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from watchme.core.errors import ConfigError, Problem

Hook = Callable[[DictConfig, Trial], None]
# Overrides that do not change what a trial comes to: two studies that differ in them alone are the same study.
_INCIDENTAL = ("tracker", "output_root", "train.device", "train.workers", "hydra")


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, by the name of the parameter in the study.

    Attributes:
        distributions: Parameter -> distribution, in the order in which they were given.
        keys: Parameter -> key of its override, which may begin with `+` or `++`.
        fixed: Overrides that all trials share.
    """

    distributions: Mapping[str, BaseDistribution]
    keys: Mapping[str, str]
    fixed: Sequence[str]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial with these parameters."""
        return [*self.fixed, *(f"{self.keys.get(name, name)}={_text(value)}" for name, value in params.items())]

    def grid(self) -> list[dict[str, Any]] | None:
        """Every point in the order of the command line, the last parameter fastest; None where there is no end."""
        values = [listed(distribution) for distribution in self.distributions.values()]
        if any(found is None for found in values):
            return None
        return [
            dict(zip(self.distributions, point, strict=True))
            for point in itertools.product(*(found or [] for found in values))
        ]

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for trials to belong into one study."""
        return {
            "space": {name: json.loads(distribution_to_json(found)) for name, found in self.distributions.items()},
            "fixed": sorted(
                override
                for override in self.fixed
                if (key := plain_key(override)) not in _INCIDENTAL and not key.startswith(("tracker.", "hydra"))
            ),
        }


def plain_key(override: str) -> str:
    """The key of an override, without `+` or `~` and without its value."""
    return override.partition("=")[0].lstrip("+~").strip()


def parse(params: Mapping[str, Any], arguments: Iterable[str]) -> SearchSpace:
    """Read the search space of `hydra.sweeper.params` and of the command line, which beats it.

    Raises:
        ConfigError: If a sweep cannot be read, or cannot be searched.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    distributions: dict[str, BaseDistribution] = {}
    keys: dict[str, str] = {}
    fixed: dict[str, str] = {}
    given = [f"{key}={_sweep_text(value)}" for key, value in params.items()]
    for source, override in [*(("hydra.sweeper.params", one) for one in given), *(("", one) for one in arguments)]:
        name = plain_key(override)
        try:
            searched, _, _ = create_params_from_overrides([override])
        except (HydraException, ValueError, AssertionError, NotImplementedError) as error:
            raise ConfigError([Problem(name, _reason(error), override.partition("=")[2], source)]) from None
        distributions.pop(name, None)
        fixed.pop(name, None)
        if searched:
            ((keys[name], distributions[name]),) = searched.items()
        else:
            fixed[name] = override
    return SearchSpace(distributions, keys, list(fixed.values()))


def listed(distribution: BaseDistribution) -> list[Any] | None:
    """Every value of a distribution; None where it has no steps."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [min(distribution.high, float(f"{distribution.low + i * distribution.step:.12g}")) for i in range(count)]
    return None


def load_hook(path: str | None) -> Hook | None:
    """Import the function that `hydra.sweeper.custom_search_space` names.

    Raises:
        ConfigError: If there is none.
    """
    if path is None:
        return None
    try:
        hook: Hook = get_method(path)
    except Exception as error:  # Hydra wraps whatever the import raises
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(
            [Problem("hydra.sweeper.custom_search_space", f"expected module.function(config, trial): {cause}", path)]
        ) from None
    return hook


def _sweep_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "choice(" + ",".join(_text(item) for item in value) + ")"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(item) for item in value) + "]"
    return "null" if value is None else str(value)


def _reason(error: Exception) -> str:
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"cannot be searched: {text}. Expected a,b,c or choice(...), range(a,b,step), interval(a,b), tag(log,...)"
