"""Points within an epoch: loss, learning rate and speed, every so many steps."""

import time
from collections.abc import Callable

from watchme.core.interfaces import StepEvent


class StepMeter:
    """Reports every `every` steps. It reads no clock and no tensor at the others.

    Args:
        every: Steps between two points; 0: none.
        report: Takes a point; it must return at once.

    Attributes:
        every: As given.
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
        """Count a step's images; whether `report` is due.

        Args:
            step: Its number over all epochs, from 1.
            images: How many were trained on, over all devices.
        """
        self._images += images
        return bool(self.every) and step % self.every == 0

    def report(self, step: int, loss: float, lr: float) -> None:
        """Report a point.

        Args:
            step: As counted.
            loss: Of the step's batch.
            lr: Learning rate of the first parameter group.
        """
        now = time.perf_counter()
        speed = self._images / max(now - self._begun, 1e-9)
        self._report(StepEvent(step, {"step/loss": loss, "step/lr": lr, "step/images_per_s": speed}))
        self._begun, self._images = now, 0
