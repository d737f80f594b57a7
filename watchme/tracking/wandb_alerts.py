"""Alerts of a W&B run, which the server sends on as the user's settings there say."""

import math
import re
from collections.abc import Callable, Collection, Mapping

from watchme.core.interfaces import Result
from watchme.core.metric_names import is_better, measured_objective

_NOT_FINITE = re.compile(r"the loss is -?(nan|inf)", re.IGNORECASE)


class Alerts:
    """Decides which alerts of `tracker.alerts` are due; each is sent once.

    Args:
        wanted: Of failed, finished, worse, undefined.
        objective: Canonical name of the metric that the run selects on.
        name: Of the run, for the titles.
        send: Takes a title, a text, and INFO, WARN or ERROR.
    """

    def __init__(
        self, wanted: Collection[str], objective: str, name: str, send: Callable[[str, str, str], None]
    ) -> None:
        self._wanted, self._objective, self._name, self._send = set(wanted), objective, name, send
        self._start = math.nan

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Look at an epoch: 0 is the evaluation before training."""
        self._objective = measured_objective("train", self._objective, metrics)
        if epoch == 0:
            self._start = metrics.get(self._objective, math.nan)
        names = [name for name in (self._objective, "train/loss") if math.isnan(metrics.get(name, 0.0))]
        if names:
            self._once(
                "undefined", f"{self._name}: {names[0]} is NaN", f"{' and '.join(names)} at epoch {epoch}", "WARN"
            )

    def step(self, step: int, loss: float) -> None:
        """Look at the loss of a step."""
        if not math.isfinite(loss):
            self._once("undefined", f"{self._name}: the loss is {loss}", f"At step {step}", "ERROR")

    def end(self, status: str, result: Result | None, error: str) -> None:
        """Look at how the run ended."""
        if status in ("failed", "killed"):
            if _NOT_FINITE.search(error) and "undefined" in self._wanted:
                self._once("undefined", f"{self._name}: the loss is not finite", error, "ERROR")
            else:
                self._once("failed", f"{self._name} {status}", error or "The training process is gone", "ERROR")
        if result is None or status not in ("finished", "pruned"):
            return
        value = f"{self._objective} {result.objective:.4f}"
        if is_better(self._objective, self._start, result.objective):
            self._once(
                "worse", f"{self._name} is worse than before training", f"{value}, was {self._start:.4f}", "WARN"
            )
        if status == "finished":
            best = "" if result.best_epoch is None else f", best epoch {result.best_epoch} of {result.epochs}"
            self._once("finished", f"{self._name} finished", value + best, "INFO")

    def _once(self, kind: str, title: str, text: str, level: str) -> None:
        if kind in self._wanted:
            self._wanted.discard(kind)
            self._send(title, text[:1000], level)
