"""What listens to the epochs of a run besides the trackers."""

import logging
import math

from watchme.core.interfaces import Callback, EpochEvent, Stop
from watchme.core.metric_names import is_better

log = logging.getLogger(__name__)


class EarlyStopping(Callback):
    """Ends training when the objective has not improved for `patience` epochs. The same for both engines.

    Epochs without a value of the objective (not evaluated, NaN) count as epochs without a better one.

    Args:
        objective: Canonical name of the metric, e.g. `val/map`.
        patience: Epochs without a better value that are borne; 0 never stops.
    """

    def __init__(self, objective: str, patience: int) -> None:
        self.objective = objective
        self.patience = patience
        self.best = math.nan
        self.best_epoch = 0
        self._seen: list[tuple[int, float]] = []

    def on_resume(self, epoch: int) -> None:
        """Forget what was seen after `epoch`."""
        seen = [(at, value) for at, value in self._seen if at <= epoch]
        self.best, self.best_epoch, self._seen = math.nan, 0, []
        for at, value in seen:
            self.see(at, value)

    def see(self, epoch: int, value: float) -> None:
        """Take an epoch's value into account, also one that is read back from metrics.jsonl."""
        self._seen.append((epoch, value))
        if is_better(self.objective, value, self.best):
            self.best, self.best_epoch = value, epoch

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Ask to stop once patience is used up."""
        self.see(event.epoch, event.metrics.get(self.objective, math.nan))
        waited = event.epoch - self.best_epoch
        if self.patience and waited >= self.patience:
            return Stop(
                f"{self.objective} has not improved since epoch {self.best_epoch} (train.patience={self.patience})"
            )
        return None
