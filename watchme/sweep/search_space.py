"""The search space: Hydra overrides -> Optuna distributions, and parameters -> the overrides of a trial."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from watchme.config.overrides import override_text, parse_overrides
from watchme.core.errors import ConfigError, Problem
from watchme.sweep.sweep_override import Searched, read_sweep

# Overrides that do not change a trial's result: two studies that differ in them alone are the same study.
_INCIDENTAL = ("output_root", "train.device", "train.workers", "tracker", "hydra")


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, by the name of the parameter in the study."""

    distributions: Mapping[str, BaseDistribution]  # parameter -> distribution, in the order in which they were given
    # Parameter -> key of its override, which may begin with `+` or `++`
    keys: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)  # key -> override that all trials share
    # Parameter -> its choices as they are written in an override, in the order of the distribution
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial with these parameters."""
        return [*self.fixed.values(), *self.searched(params)]

    def searched(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of these parameters alone."""
        return [f"{self.keys.get(name, name)}={self._written(name, value)}" for name, value in params.items()]

    def _written(self, name: str, value: Any) -> str:
        if name not in self.choices:
            return override_text(value)
        return self.choices[name][int(self.distributions[name].to_internal_repr(value))]

    def stored(self, name: str, value: Any) -> Any:
        """A value of `hydra.sweeper.points_to_evaluate` as the study stores it.

        Raises:
            ValueError: If the search space does not hold it.
        """
        distribution = self.distributions.get(name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if distribution is None and (value is None or isinstance(value, (bool, int, float, str))):
            return value  # a parameter of the hook
        if isinstance(distribution, CategoricalDistribution):
            written = self.choices[name]
            for choice, text in zip(distribution.choices, written, strict=True):
                equal = choice == value and isinstance(choice, bool) == isinstance(value, bool)
                if equal or text in (override_text(value), value):
                    return choice
        elif isinstance(distribution, (FloatDistribution, IntDistribution)) and number:
            steps = (value - distribution.low) / distribution.step if distribution.step is not None else 0.0
            if distribution.low <= value <= distribution.high and abs(steps - round(steps)) < 1e-8:
                return value if isinstance(distribution, FloatDistribution) else round(value)
        raise ValueError(describe(distribution) if distribution is not None else "a number, text, true, false or null")

    def grid(self) -> list[dict[str, Any]] | None:
        """Every point in the order of the command line, the last parameter fastest; None if there is no end of them."""
        values = [listed(distribution) for distribution in self.distributions.values()]
        if any(found is None for found in values):
            return None
        points = itertools.product(*(found or [] for found in values))
        return [dict(zip(self.distributions, point, strict=True)) for point in points]

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for trials to belong to one study."""
        return {
            "space": {name: json.loads(distribution_to_json(found)) for name, found in self.distributions.items()},
            "fixed": sorted(
                override
                for key, override in self.fixed.items()
                if key not in _INCIDENTAL and not key.startswith(("tracker.", "hydra"))
            ),
        }


def parse_space(
    params: Mapping[str, Any], arguments: Iterable[str], loader: ConfigLoader | None = None, seed: int | None = None
) -> SearchSpace:
    """Read the search space of `hydra.sweeper.params` and of the command line, which takes precedence.

    Args:
        params: Key -> sweep as on the command line, a list of choices, or a fixed value.
        arguments: Overrides.
        loader: Hydra's, which lists the options of a group for `glob(*)`.
        seed: `hydra.sweeper.seed`, with which `shuffle(...)` orders values.

    Raises:
        ConfigError: If an override cannot be parsed or searched.
    """
    found: dict[str, Searched] = {}
    fixed: dict[str, str] = {}
    given = [(f"{key}={_sweep_text(value)}", "hydra.sweeper.params") for key, value in params.items()]
    for text, source in [*given, *((argument, "") for argument in arguments)]:
        (override,) = parse_overrides([text], loader)
        try:
            searched = read_sweep(override, seed)
        except (HydraException, ValueError) as error:
            key, _, value = text.partition("=")
            raise ConfigError([Problem(key.lstrip("+~"), _reason(error), value, source)]) from None
        name = override.key_or_group
        found.pop(name, None)
        fixed.pop(name, None)
        if searched is None:
            fixed[name] = text
        else:
            found[name] = searched
    return SearchSpace(
        distributions={name: one.distribution for name, one in found.items()},
        keys={name: one.key for name, one in found.items()},
        fixed=fixed,
        choices={name: one.choices for name, one in found.items() if one.choices},
    )


def listed(distribution: BaseDistribution) -> list[Any] | None:
    """Every value of a distribution; None if it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [min(distribution.high, float(f"{distribution.low + i * distribution.step:.12g}")) for i in range(count)]
    return None


def describe(distribution: BaseDistribution) -> str:
    """A distribution as text: choice(16,32), 1..8 step 2, log 0.0001..0.1."""
    if isinstance(distribution, CategoricalDistribution):
        return "choice(" + ",".join(map(str, distribution.choices)) + ")"
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    step = f" step {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{'log ' if distribution.log else ''}{distribution.low}..{distribution.high}{step}"


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    """Draw a parameter of a trial."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _sweep_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        texts = list(map(override_text, value))
        return ",".join(texts) if len(texts) > 1 else f"choice({','.join(texts)})"  # Hydra's choice() takes no null
    return value if isinstance(value, str) else override_text(value)


def _reason(error: Exception) -> str:
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"cannot be searched: {text}. Expected a,b,c or choice(...), range(a,b,step), interval(a,b), tag(log,...)"
