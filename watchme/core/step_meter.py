"""Points within an epoch: loss, learning rate and speed, every so many steps."""

import time
from collections.abc import Callable

from watchme.core.interfaces import StepEvent


class StepMeter:
    """Reports a point every `every` steps (0: never) by `report`, which must return at once.

    It reads no clock and no tensor at the others.
    """

    def __init__(self, every: int = 0, report: Callable[[StepEvent], None] = lambda event: None) -> None:
        self.every = every
        self._report = report
        self._begun = time.perf_counter()
        self._images = 0

    def start_epoch(self) -> None:
        """Begin to time; validation between two epochs is no training."""
        self._begun, self._images = time.perf_counter(), 0

    def count(self, step: int, images: int) -> bool:
        """Count the images of a step (from 1, over all epochs) on all devices; whether `report` is due."""
        self._images += images
        return bool(self.every) and step % self.every == 0

    def report(self, step: int, loss: float, lr: float) -> None:
        """Report a point: the loss of the step's batch, and the learning rate of the first parameter group."""
        now = time.perf_counter()
        speed = self._images / max(now - self._begun, 1e-9)
        self._report(StepEvent(step, {"step/loss": loss, "step/lr": lr, "step/images_per_s": speed}))
        self._begun, self._images = now, 0
