"""A run that is a sweep's trial: it reports its epochs to the pruner, and is told when to stop.

The trial is found by the study's storage, so this works in whatever process the run is.
"""

import logging
import math
from pathlib import Path

import optuna
from optuna.trial import Trial

from watchme.config.schema import RunConfig, TrialConfig
from watchme.core.errors import WatchmeError
from watchme.core.interfaces import Callback, EpochEvent, Picture, Result, Stop, Table
from watchme.sweep.samplers import make_pruner
from watchme.sweep.storage import open_storage

PRUNED_AT = "pruned_at"
PRUNER = "watchme:pruner"
log = logging.getLogger(__name__)


class GivenUp(WatchmeError):
    """The sweep no longer waits for this trial: its machine was silent too long, or the sweep was ended."""


class PruningCallback(Callback):
    """Reports each epoch's objective and asks to stop when the pruner says so.

    Args:
        config: The run's config; its `trial` names the study.
        folder: The run folder.

    Raises:
        StorageError: If the storage does not answer.
    """

    def __init__(self, config: RunConfig, folder: Path) -> None:
        if config.trial is None:
            raise ValueError("the run is no trial")
        self.trial_config = config.trial
        self.folder = folder
        self.objective = config.trial.objectives[0] if config.trial.objectives else config.objective
        self.trial = _load(config.trial)

    def on_resume(self, epoch: int) -> None:
        """Reported epochs stay reported; Optuna keeps the first value of each."""

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Report the epoch; ask to stop a trial that is not worth its time."""
        value = event.metrics.get(self.objective, math.nan)
        if event.epoch < 1 or math.isnan(value):
            return None
        try:
            self._report(value, event.epoch)
            # After the last epoch there is no time left to save.
            if not self.trial_config.prune or event.epoch >= event.epochs or not self.trial.should_prune():
                return None
            self.trial.set_user_attr(PRUNED_AT, event.epoch)
        except optuna.exceptions.UpdateFinishedTrialError:
            raise GivenUp(
                f"Trial {self.trial.number} of {self.trial_config.study} was given up by its sweep; it stops here."
            ) from None
        return Stop(f"the pruner ended trial {self.trial.number} at {self.objective}={value:.4f}", "pruned")

    def _report(self, value: float, epoch: int) -> None:
        if len(self.trial_config.objectives) > 1:
            # Optuna reports for pruning, and prunes on one objective alone; the curve is worth keeping all the same.
            self.trial.storage.set_trial_intermediate_value(self.trial._trial_id, epoch, value)
        else:
            self.trial.report(value, epoch)

    def on_show(self, item: Picture | Table) -> None:
        """Pictures do not matter here."""

    def on_end(self, status: str, result: Result | None) -> None:
        """Delete the weights of a pruned trial where that was chosen."""
        if status == "pruned" and not self.trial_config.keep_pruned_weights:
            for file in (self.folder / "weights").glob("*"):
                file.unlink()


def _load(config: TrialConfig) -> Trial:
    storage = open_storage(config.storage)
    study = optuna.load_study(study_name=config.study, storage=storage)
    chosen = study.user_attrs.get(PRUNER, {"name": "none", "options": {}, "epochs": 1})
    study.pruner = make_pruner(chosen["name"], chosen["options"], chosen["epochs"])
    return Trial(study, config.trial_id)
