"""The pruning callback: a run that is a trial reports its epochs to Optuna, and stops when the pruner says so.

The run opens the study in its storage, so it may be in any process on any machine.
"""

import contextlib
import logging
import math
from pathlib import Path

import optuna

from watchme.config.schema import RunConfig, TrialConfig
from watchme.core.errors import WatchmeError
from watchme.core.interfaces import Callback, EpochEvent, Result, Stop
from watchme.core.metric_names import measured_objective
from watchme.sweep.optuna_compat import attach
from watchme.sweep.retry import is_outage, retry
from watchme.sweep.samplers import make_pruner
from watchme.sweep.storage import open_storage
from watchme.sweep.trial_states import MEASURED

PRUNED_AT = "pruned_at"
PRUNER = "watchme:pruner"
log = logging.getLogger(__name__)


class GivenUp(WatchmeError):
    """The sweep took this trial for lost: its machine sent no heartbeat for too long, or the sweep was ended."""


class PruningCallback(Callback):
    """Reports each epoch's objective and asks to stop when the pruner says so.

    Raises:
        StorageError: If the storage does not answer.
    """

    def __init__(self, config: RunConfig, folder: Path) -> None:
        if config.trial is None:
            raise ValueError("the run is no trial")
        self.trial_config = config.trial
        self.folder = folder
        self.objectives = config.trial.objectives or [config.objective]
        self.trial = retry(lambda: _load(self.trial_config))
        self._unreported: dict[int, float] = {}

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Report the epoch; return a `Stop` if the pruner ends the trial.

        A database that does not answer does not delay the training: the value is reported with a later epoch.
        """
        measured = [measured_objective("train", name, event.metrics) for name in self.objectives]
        value = event.metrics.get(measured[0], math.nan)
        if event.epoch < 1 or math.isnan(value):
            return None
        self._unreported[event.epoch] = value
        try:
            if self.trial.user_attrs.get(MEASURED) != measured:
                self.trial.set_user_attr(MEASURED, measured)
            self._report()
            # After the last epoch pruning would save nothing.
            if not self.trial_config.prune or event.epoch >= event.epochs or not self.trial.should_prune():
                return None
            self.trial.set_user_attr(PRUNED_AT, event.epoch)
        except optuna.exceptions.UpdateFinishedTrialError:
            raise GivenUp(
                f"Trial {self.trial.number} of {self.trial_config.study} was given up by its sweep; it stops here."
            ) from None
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("The study's storage does not answer; epoch %d is reported to it later.", event.epoch)
            return None
        return Stop(f"the pruner ended trial {self.trial.number} at {measured[0]}={value:.4f}", "pruned")

    def _report(self) -> None:
        for epoch, value in list(self._unreported.items()):
            if len(self.trial_config.objectives) > 1:
                # `Trial.report` refuses studies of several objectives, as it is for pruning; this keeps the curve.
                self.trial.storage.set_trial_intermediate_value(self.trial_config.trial_id, epoch, value)
            else:
                self.trial.report(value, epoch)
            del self._unreported[epoch]

    def on_end(self, status: str, result: Result | None) -> None:
        """Report what could not be reported before; delete the weights of a pruned trial if the sweep wants that."""
        if self._unreported and status in ("finished", "pruned"):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                retry(self._report)
        if status == "pruned" and not self.trial_config.keep_pruned_weights:
            for file in (self.folder / "weights").glob("*"):
                file.unlink()


def _load(config: TrialConfig) -> optuna.Trial:
    storage = open_storage(config.storage)
    study = optuna.load_study(study_name=config.study, storage=storage)
    chosen = study.user_attrs.get(PRUNER, {"name": "none", "options": {}, "epochs": 1})
    study.pruner = make_pruner(chosen["name"], chosen["options"], chosen["epochs"])
    return attach(study, config.trial_id)
