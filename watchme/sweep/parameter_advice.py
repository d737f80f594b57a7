"""What a study says about each parameter: the best trial's value, those of good trials, and whether it mattered."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from watchme.core.formatting import UNDEFINED
from watchme.sweep.importance import chance_levels, importance_ranges
from watchme.sweep.trial_states import best_of, has_result, setting, values_of

# From this share on a parameter counts as one that mattered.
_MATTERS = 0.1
# From so many trials on the range of an importance says enough, and shuffling them takes seconds.
_MANY = 60


@dataclass(frozen=True)
class Advice:
    """One row of the page's table."""

    name: str
    best: str  # value of the best trial; a dash where it does not have it
    good: str  # range, or choices, of the best quarter of the trials
    share: float | None  # importance; None where there are too few trials to say
    low: float = 0.0  # 10th percentile of the importance over random halves of the trials
    high: float = 0.0  # 90th percentile
    chance: float = 0.0  # importance that one in ten shuffles of the trials' values exceeds; 0: not computed

    @property
    def reading(self) -> str:
        """What the importance, its range and chance say, in words."""
        if self.share is None:
            return "too few trials to say"
        # With the digits that are shown: among few trials, shuffles often come to the very same importance.
        if self.low >= _MATTERS and round(self.share, 2) > round(self.chance, 2):
            return "mattered"
        return "hardly mattered" if self.high < _MATTERS else "may be chance"


def advise(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> list[Advice]:
    """A row for each searched parameter, the most important first.

    Good trials are the best quarter of the complete and the pruned ones, these with their last value.
    """
    best = best_of(trials, directions)
    if best is None:
        return []
    sign = -1.0 if directions[0] == "maximize" else 1.0
    values = {trial.number: values_of(trial, 1)[0] for trial in trials if has_result(trial)}
    measured = [trial for trial in trials if (value := values.get(trial.number)) is not None and math.isfinite(value)]
    measured.sort(key=lambda trial: sign * (values[trial.number] or 0.0))
    good = measured[: math.ceil(len(measured) / 4)]
    ranges = importance_ranges(trials, directions[0])
    chance = chance_levels(trials, directions[0]) if len(measured) < _MANY else {}
    names = dict.fromkeys([*ranges, *(name for trial in trials for name in trial.params)])
    rows = []
    for name in names:
        share, low, high = ranges.get(name, (None, 0.0, 0.0))
        own = setting(best.params[name]) if name in best.params else UNDEFINED
        values_there = [trial.params[name] for trial in good if name in trial.params]
        rows.append(Advice(name, own, _spanned(values_there), share, low, high, chance.get(name, 0.0)))
    return rows


def _spanned(values: Sequence[object]) -> str:
    """`0.001 to 0.01`, or the choices that occur, the most frequent first."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) == len(values) and any(isinstance(value, float) for value in numbers):
        low, high = setting(min(numbers)), setting(max(numbers))
        return low if low == high else f"{low} to {high}"
    counts = Counter(map(setting, values))
    return ", ".join(f"{text} ({count} of {len(values)})" for text, count in counts.most_common())
