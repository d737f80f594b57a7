"""Which parameters matter: a study whose pruned trials count with their last value, and PED-ANOVA importances."""

import random
import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, create_trial

from watchme.sweep.trial_states import has_result

_FEWEST = 4
_SAMPLES = 20
# Optuna's default, a tenth, would be a single trial of most studies.
_BEST_SHARE = 0.25


def with_pruned(trials: Sequence[FrozenTrial], direction: str) -> optuna.Study:
    """A study in memory of the first objective, in which pruned trials are complete with their last value.

    Optuna's plots and importances leave pruned trials out, which with a pruner are most of a study.
    """
    study = optuna.create_study(direction=direction)
    for trial in trials:
        if has_result(trial) and trial.values is not None:
            study.add_trial(
                create_trial(value=trial.values[0], params=trial.params, distributions=dict(trial.distributions))
            )
    return study


def importance_ranges(trials: Sequence[FrozenTrial], direction: str) -> dict[str, tuple[float, float, float]]:
    """Parameter -> importance, and the 10th and 90th percentile of it over random halves of the trials.

    Halves are as uncertain as samples with replacement, which repeat trials, and repeated ones look like a cause.
    """
    found = importances(with_pruned(trials, direction))
    draw = random.Random(0)
    known = [trial for trial in trials if has_result(trial)]
    half = max(_FEWEST, len(known) // 2)
    samples = [importances(with_pruned(draw.sample(known, min(half, len(known))), direction)) for _ in range(_SAMPLES)]
    ranges = {}
    for name, share in found.items():
        shares = sorted(sample[name] for sample in samples if name in sample) or [share]
        ranges[name] = (share, shares[len(shares) // 10], shares[-1 - len(shares) // 10])
    return ranges


def chance_levels(trials: Sequence[FrozenTrial], direction: str) -> dict[str, float]:
    """Parameter -> the 90th percentile of its importance with values shuffled among the trials: what chance gives."""
    known = with_pruned(trials, direction).trials
    values = [trial.value for trial in known]
    draw = random.Random(0)
    samples = []
    for _ in range(_SAMPLES):
        study = optuna.create_study(direction=direction)
        for trial, value in zip(known, draw.sample(values, len(values)), strict=True):
            made = create_trial(value=value, params=trial.params, distributions=dict(trial.distributions))
            study.add_trial(made)
        samples.append(importances(study))
    names = {name for sample in samples for name in sample}
    shares = {name: sorted(sample.get(name, 0.0) for sample in samples) for name in names}
    return {name: found[-1 - len(found) // 10] for name, found in shares.items()}


def importances(study: optuna.Study) -> dict[str, float]:
    """Parameter -> importance in 0..1, the greatest first; empty if there are too few trials.

    PED-ANOVA (Watanabe et al., IJCAI 2023) measures what sets the best quarter of the trials apart, which is what a
    search is for.
    """
    if len(study.trials) < _FEWEST or len({trial.value for trial in study.trials}) < 2:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # no parameter that all trials share, or none that varies
        return {}
    return {name: float(share) for name, share in found.items()}
