"""How much each parameter decides about a trial's objective."""

import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from watchme.sweep.plan import Plan

_FEWEST = 4


def importances(plan: Plan, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Parameter -> share, the greatest first; empty where there are too few trials to say.

    By PED-ANOVA (Watanabe et al., IJCAI 2023): it asks what sets the best trials apart, as a tuner does. Pruned trials
    count with their last value: that they were given up early is what is to be explained.
    """
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    known = [trial for trial in trials if trial.state in ended and trial.values is not None]
    if len(known) < _FEWEST or len({trial.values[0] for trial in known}) < 2:
        return {}
    # A copy in memory: the study itself is neither asked nor locked.
    study = optuna.create_study(direction=plan.directions[0])
    for trial in known:
        study.add_trial(
            optuna.trial.create_trial(
                value=trial.values[0], params=trial.params, distributions=dict(trial.distributions)
            )
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):  # no parameter that all trials share, or none that varies
        return {}
    return {name: float(share) for name, share in found.items()}
