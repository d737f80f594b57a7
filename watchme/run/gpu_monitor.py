"""GPU use of each epoch, so that a slow loader or a batch that is too small can be seen."""

import contextlib
import re
import sys
import threading
from types import TracebackType
from typing import Any

_INTERVAL_S = 1.0


class GpuMonitor:
    """Samples GPUs once a second in a thread, while it is open as a context.

    Where there is no GPU that torch can use, it does nothing. It never makes a CUDA context itself: the numbers
    are the driver's, of the whole device.

    Args:
        device: `train.device`: auto, cpu, cuda, mps, an index, or a list of indices.
    """

    def __init__(self, device: str | int | list[int]) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._samples: list[tuple[float, float]] = []
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "GpuMonitor":
        if _indices(self._device):
            self._thread = threading.Thread(target=self._watch, name="gpu-monitor", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_INTERVAL_S)

    def take(self) -> dict[str, float]:
        """What was seen since the last call.

        Returns:
            `perf/gpu_utilisation` (mean share of time that the GPUs were busy, 0 to 1) and `perf/gpu_memory_gb`
            (most memory that was in use on one GPU, in GiB); empty where nothing was sampled.
        """
        with self._lock:
            samples, self._samples = self._samples, []
        if not samples:
            return {}
        return {
            "perf/gpu_utilisation": sum(busy for busy, _ in samples) / len(samples),
            "perf/gpu_memory_gb": max(memory for _, memory in samples),
        }

    def _watch(self) -> None:
        indices = _indices(self._device)
        # Without the driver's library there is nothing to sample, and nothing to complain of.
        with contextlib.suppress(Exception):
            while not self._ending.wait(_INTERVAL_S):
                torch = _torch()
                if torch is None:
                    continue
                if not torch.cuda.is_available():
                    return
                busy = [torch.cuda.utilization(index) / 100 for index in indices]
                memory = [torch.cuda.device_memory_used(index) / 2**30 for index in indices]
                with self._lock:
                    self._samples.append((sum(busy) / len(busy), max(memory)))


def _torch() -> Any:
    """torch, once an engine has imported it whole; importing it is never this module's doing."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(getattr(torch, "__spec__", None), "_initializing", False) else torch


def _indices(device: str | int | list[int]) -> list[int]:
    """Indices of the GPUs that a run uses."""
    if isinstance(device, list):
        return device
    if device in ("cpu", "mps"):
        return []
    return [int(index) for index in re.findall(r"\d+", str(device))] or [0]
