"""GPU use of each epoch by NVML, so that a slow loader or a batch that is too small can be seen."""

import logging
import re
import sys
import threading
from typing import Any

from watchme.core.cuda_visible_devices import cuda_visible_devices

_INTERVAL_S = 1.0
log = logging.getLogger(__name__)


class GpuMonitor:
    """Samples the GPUs of `train.device` once a second in a thread, while it is open as a context.

    Where there is no GPU that torch can use, it does nothing. It never makes a CUDA context itself: the numbers are the
    driver's, of the whole device. An error of the driver costs its sample, and is logged once. `train.processes` of
    OSNet takes as many GPUs, from the first, where the device lists none.
    """

    def __init__(self, device: str | int | list[int], processes: int | None = None) -> None:
        self._gpus = _watched(device, processes or 1)
        self._lock = threading.Lock()
        self._busy: list[float] = []
        self._memory: list[float] = []
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "GpuMonitor":
        if self._gpus:
            self._thread = threading.Thread(target=self._watch, name="gpu-monitor", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_INTERVAL_S)

    def take(self) -> dict[str, float]:
        """What was seen since the last call.

        Returns:
            `perf/gpu_utilisation` (mean share of time that the GPUs were busy, 0 to 1) and `perf/gpu_memory_gb`
            (most memory that was in use on one GPU, in GiB); without what was not sampled: slices of a GPU (MIG)
            have no utilisation.
        """
        with self._lock:
            busy, self._busy = self._busy, []
            memory, self._memory = self._memory, []
        return {
            **({"perf/gpu_utilisation": sum(busy) / len(busy)} if busy else {}),
            **({"perf/gpu_memory_gb": max(memory)} if memory else {}),
        }

    def _watch(self) -> None:
        logged: set[str] = set()
        while not self._ending.wait(_INTERVAL_S):
            torch = _torch()
            if torch is None:
                continue
            if not torch.cuda.is_available():
                return
            for query, samples in ((_utilisation, self._busy), (_memory_gb, self._memory)):
                try:
                    values = [query(gpu) for gpu in self._gpus]
                except Exception as error:  # NVML's, of which each version has more
                    text = f"{type(error).__name__}: {error}"
                    if text not in logged:
                        logged.add(text)
                        log.warning("GPU %s cannot be sampled at the moment: %s", query.__name__.strip("_"), text)
                else:
                    with self._lock:
                        samples += values


def _torch() -> Any:
    """torch, once an engine has imported it whole; importing it is never this module's doing."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(getattr(torch, "__spec__", None), "_initializing", False) else torch


def _utilisation(gpu: str) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetUtilizationRates(_handle(gpu)).gpu) / 100


def _memory_gb(gpu: str) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetMemoryInfo(_handle(gpu)).used) / 2**30


def _handle(gpu: str) -> Any:
    import pynvml

    pynvml.nvmlInit()  # counted, and cheap after the first
    return pynvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(gpu)


def _watched(device: str | int | list[int], processes: int) -> list[str]:
    """The GPUs that a run uses, as NVML knows them: by index or UUID."""
    if device in ("cpu", "mps"):
        return []
    indices = device if isinstance(device, list) else [int(index) for index in re.findall(r"\d+", str(device))]
    if len(indices) < 2 and processes > 1:
        indices = list(range(processes))
    visible = cuda_visible_devices()
    if visible is None:
        return [str(index) for index in indices or [0]]
    return [visible[index] for index in indices or [0] if index < len(visible)]
