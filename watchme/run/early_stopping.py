"""Early stopping: training ends when validation no longer improves."""

import logging
import math

from watchme.core.interfaces import Callback, EpochEvent, Stop
from watchme.core.metric_names import is_better, measured_objective

log = logging.getLogger(__name__)


class EarlyStopping(Callback):
    """Ends training when the objective has not improved for `patience` validations (0: never). Same for both engines.

    Epochs that are not validated do not count, nor does the evaluation before the first epoch, whose weights may be
    better than those of the first epochs. An undefined value (NaN) counts as one that is not better.
    """

    def __init__(self, objective: str, patience: int) -> None:
        self.objective = objective
        self.patience = patience
        self.best = math.nan
        self.best_epoch = 0
        self._values: list[tuple[int, float]] = []

    def on_resume(self, epoch: int) -> None:
        """Forget values after `epoch`."""
        kept = [(at, value) for at, value in self._values if at <= epoch]
        self.best, self.best_epoch, self._values = math.nan, 0, []
        for at, value in kept:
            self.add(at, value)

    def add(self, epoch: int, value: float) -> None:
        """Add the value of a validated epoch, also one that is read back from metrics.jsonl."""
        if epoch < 1:
            return
        self._values.append((epoch, value))
        if is_better(self.objective, value, self.best):
            self.best, self.best_epoch = value, epoch

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Ask to stop once patience is used up."""
        name = measured_objective("train", self.objective, event.metrics)
        if name not in event.metrics:
            return None
        self.add(event.epoch, event.metrics[name])
        waited = sum(epoch > self.best_epoch for epoch, _ in self._values)
        if not self.patience or waited < self.patience:
            return None
        since = f"since epoch {self.best_epoch}" if self.best_epoch else "and was never defined"
        count = f"{waited} validations" if waited > 1 else "1 validation"
        return Stop(f"{name} has not improved in {count}, {since} (train.patience={self.patience})")
