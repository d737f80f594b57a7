"""What the sweep uses of Optuna beyond its documented API. Checked with Optuna 5.0.0."""

import optuna
from optuna.storages import BaseStorage
from optuna.trial import Trial

# System attribute of a trial: parameter values that `suggest_*` must return, as `Study.enqueue_trial` sets it.
FIXED_PARAMS = "fixed_params"


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study, with the cache that Optuna puts before a database: writes have to go through it."""
    return study._storage


def attach(study: optuna.Study, trial_id: int) -> Trial:
    """A `Trial` that exists in the storage already; Optuna documents the constructor, but does not recommend it."""
    return Trial(study, trial_id)
