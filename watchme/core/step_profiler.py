"""`train.profile` and `train.detect_anomaly`: which operators take the time of a step, and which makes a NaN."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerAction, ProfilerActivity, profile

from watchme.core.errors import TrainingError
from watchme.core.interfaces import Table

T = TypeVar("T")
TRACE = Path("profile", "trace.json.gz")
TABLE = "profile/operators"
_STEPS = 8  # recorded
_SKIPPED = 4  # before them, where there are enough: the first steps allocate memory and choose kernels
_ROWS = 30
_COLUMNS = ("operator", "calls", "self_ms", "total_ms", "share")
# Function 'LogSoftmaxBackward0' returned nan values in its 0th output.
_NAN = re.compile(r"Function '(\w+)' returned nan values")


class StepProfiler:
    """Profiles some steps of the first epoch; writes a trace, and keeps a table of the slowest operators.

    Args:
        folder: The run folder.
        on_gpu: Whether the time of a GPU counts rather than that of the CPU.

    Attributes:
        table: Operators by the time that they themselves took, over the recorded steps, times in milliseconds; None
            before they are recorded.
    """

    def __init__(self, folder: Path, *, on_gpu: bool) -> None:
        self.table: Table | None = None
        self._path = folder / TRACE
        self._on_gpu = on_gpu
        self._used = self._broken_off = False
        self._first = 0

    def over(self, batches: Iterable[T], steps: int) -> Iterator[T]:
        """The batches of an epoch; what is done between one and the next is a step.

        Args:
            batches: Of the epoch.
            steps: Their number.
        """
        if self._used:
            yield from batches
            return
        self._used = True
        self._first = min(_SKIPPED, max(0, steps - _STEPS))
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        with profile(activities=activities, schedule=self._action, on_trace_ready=self._keep) as profiler:
            try:
                for batch in batches:
                    yield batch
                    profiler.step()
            except BaseException:  # of the loader, or the loop was left
                self._broken_off = True
                raise

    def _action(self, step: int) -> ProfilerAction:
        if step < self._first - 1 or step >= self._first + _STEPS:
            return ProfilerAction.NONE
        if step < self._first:
            return ProfilerAction.WARMUP
        last = step == self._first + _STEPS - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD

    def _keep(self, found: Any) -> None:
        if self._broken_off:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(self._path))
        own = "self_device_time_total" if self._on_gpu else "self_cpu_time_total"
        total = "device_time_total" if self._on_gpu else "cpu_time_total"
        events = [event for event in found.key_averages() if not event.key.startswith("ProfilerStep")]
        whole = sum(getattr(event, own) for event in events) or 1.0
        events.sort(key=lambda event: getattr(event, own), reverse=True)
        rows = [
            (
                event.key,
                event.count,
                round(getattr(event, own) / 1e3, 3),
                round(getattr(event, total) / 1e3, 3),
                round(getattr(event, own) / whole, 4),
            )
            for event in events[:_ROWS]
        ]
        self.table = Table(TABLE, _COLUMNS, tuple(rows))


@contextlib.contextmanager
def anomalies_detected(wanted: bool) -> Iterator[None]:
    """Stop within the block at the first operation whose gradient is NaN; does nothing unless `wanted`.

    Raises:
        TrainingError: With its name. torch's warning before it, in train.log, shows where its forward pass was.
    """
    if not wanted:
        yield
        return
    try:
        with torch.autograd.set_detect_anomaly(True):
            yield
    except RuntimeError as error:
        match = _NAN.search(str(error))
        if match is None:
            raise
        raise TrainingError(
            f"train.detect_anomaly: the gradient of {match[1]} is NaN. train.log shows the line that called it in the "
            "forward pass.\n    Most often the learning rate is too high (optimizer.lr), or an image or a label is bad."
        ) from error
