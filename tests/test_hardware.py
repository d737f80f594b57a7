"""GPU metrics of an epoch, with a GPU that is made up: the numbers are torch.cuda's."""

import sys
import time
from types import SimpleNamespace

import pytest

from watchme.run import gpu_monitor as hardware
from watchme.run.gpu_monitor import GpuMonitor


def fake_torch(available: bool = True, fails: bool = False) -> SimpleNamespace:
    def utilization(index: int) -> int:
        if fails:
            raise ModuleNotFoundError("pynvml")
        return 80 + 10 * index

    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: available,
            utilization=utilization,
            device_memory_used=lambda index: (2 + index) * 2**30,
        )
    )


def wait_for_samples(monitor: GpuMonitor) -> dict[str, float]:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if taken := monitor.take():
            return taken
        time.sleep(0.01)
    return {}


def test_mean_utilisation_and_most_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_INTERVAL_S", 0.01)
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    with GpuMonitor([0, 1]) as monitor:
        assert wait_for_samples(monitor) == {"perf/gpu_utilisation": pytest.approx(0.85), "perf/gpu_memory_gb": 3.0}
    with GpuMonitor("auto") as monitor:
        assert wait_for_samples(monitor)["perf/gpu_utilisation"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("device", "available", "fails"), [("auto", False, False), ("cpu", True, False), (0, True, True)]
)
def test_no_gpu_no_metrics(device: str | int, available: bool, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_INTERVAL_S", 0.01)
    monkeypatch.setitem(sys.modules, "torch", fake_torch(available, fails))
    with GpuMonitor(device) as monitor:
        time.sleep(0.1)
        assert monitor.take() == {}
