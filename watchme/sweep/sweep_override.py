"""One Hydra override -> the Optuna distribution that it sweeps over, and how its choices are written."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep, Transformer
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


@dataclass(frozen=True)
class Searched:
    """A searched parameter."""

    key: str  # key of its override, which may begin with `+` or `++`
    distribution: BaseDistribution  # what is drawn from
    choices: Sequence[str] = ()  # the choices of a categorical distribution as they are written in an override


def read_sweep(override: Override, seed: int | None = None) -> Searched | None:
    """The parameter that an override searches; None for a fixed value.

    Choices are stored as Python values; a list or dict, which Optuna cannot store, as it is written in an override.
    `shuffle(...)` orders values by `seed` and the values, so that the same command searches the same space.

    Raises:
        HydraException: If `glob(*)` has no config group to list.
        ValueError: If there is no value to choose from.
    """
    if override.is_delete() or not override.is_sweep_override():
        return None
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return Searched(key, _interval(value))
    shuffled = value if isinstance(value, (ChoiceSweep, RangeSweep)) and value.shuffle else None
    if isinstance(value, RangeSweep) and not value.shuffle and not value.transformers:
        return Searched(key, _range(value))
    if shuffled is not None:
        shuffled.shuffle = False  # Hydra's own draws from the global generator
    elements = list(override.sweep_iterator())
    if shuffled is not None:
        shuffled.shuffle = True  # parsed overrides are shared, see config/overrides.py
    if not elements:
        raise ValueError("there is no value to choose from")
    if shuffled is not None:
        random.Random(f"{seed} {elements}").shuffle(elements)
    return Searched(key, CategoricalDistribution(list(map(_stored, elements))), list(map(Transformer.str, elements)))


def _stored(element: Any) -> Any:
    if isinstance(element, QuotedString):
        return element.text
    return element if element is None else Transformer.encode(element)


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    if sweep.start is None or sweep.end is None:
        raise ValueError("an interval needs both ends")
    log = "log" in sweep.tags
    if isinstance(sweep.start, int) and isinstance(sweep.end, int):
        return IntDistribution(sweep.start, sweep.end, log=log)
    return FloatDistribution(sweep.start, sweep.end, log=log)


def _range(sweep: RangeSweep) -> BaseDistribution:
    """Optuna includes both ends, Hydra excludes the stop."""
    values, step = sweep.range(), Decimal(str(sweep.step))
    if step == 0:
        raise ValueError("a range needs a step that is not 0")
    if isinstance(values, range):
        numbers: Any = sorted((values[0], values[-1])) if values else []
    else:
        start, stop = Decimal(values.start), Decimal(values.stop)  # they are decimals: 0.1 is exact
        count = math.ceil((stop - start) / step)
        numbers = sorted(map(float, (start, start + (count - 1) * step))) if count > 0 else []
    if not numbers:
        raise ValueError("there is no value to choose from")
    if isinstance(values, range):
        return IntDistribution(*numbers, step=abs(values.step))
    return FloatDistribution(*numbers, step=float(abs(step)))
