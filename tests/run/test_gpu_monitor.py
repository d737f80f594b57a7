"""GPU metrics of an epoch, on GPUs that are made up: the numbers are NVML's."""

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from watchme.config.schema import RunConfig
from watchme.run import gpu_monitor
from watchme.run.gpu_monitor import GpuMonitor
from watchme.run.session import Session

GB = 2**30


class NvmlError(Exception):
    """Stands for pynvml.NVMLError."""


class Nvml:
    """A stand-in for pynvml with GPUs 0 to 3, of which number N is busy 0.6 + 0.1 N and holds 2 + N GiB.

    Args:
        fails: Raises or returns for each reading of the utilisation.
    """

    def __init__(self, fails: Callable[[], None] = lambda: None) -> None:
        self.fails = fails
        self.read: set[object] = set()
        self.rounds = 0
        self.enough = threading.Event()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = SimpleNamespace(
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByIndex=self._by_index,
            nvmlDeviceGetHandleByUUID=self._by_uuid,
            nvmlDeviceGetUtilizationRates=self._utilisation,
            nvmlDeviceGetMemoryInfo=self._memory,
        )
        monkeypatch.setitem(sys.modules, "pynvml", names)

    def _by_index(self, index: int) -> int:
        self.read.add(index)
        return index

    def _by_uuid(self, name: str) -> int:
        self.read.add(name)
        return 0

    def _utilisation(self, handle: int) -> SimpleNamespace:
        self.fails()
        return SimpleNamespace(gpu=60 + 10 * handle)

    def _memory(self, handle: int) -> SimpleNamespace:
        self.rounds += 1
        if self.rounds >= 12:
            self.enough.set()
        return SimpleNamespace(used=(2 + handle) * GB)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_monitor, "_INTERVAL_S", 0.01)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)


def sampled(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, device: str | int | list[int] = "auto", processes: int | None = None
) -> dict[str, float]:
    """The metrics of some rounds."""
    nvml.install(monkeypatch)
    with GpuMonitor(device, processes) as monitor:
        assert nvml.enough.wait(20)
        return monitor.take()


@pytest.mark.parametrize(
    ("device", "processes", "visible", "read", "busy", "memory"),
    [
        ([0, 1], None, None, {0, 1}, 0.65, 3),
        ("auto", None, None, {0}, 0.6, 2),
        ("cuda:2", None, None, {2}, 0.8, 4),
        ("auto", 4, None, {0, 1, 2, 3}, 0.75, 5),
        ("cuda", 2, None, {0, 1}, 0.65, 3),
        (1, None, "3,1", {1}, 0.7, 3),
        ("auto", None, "3,1", {3}, 0.9, 5),
        ("auto", None, "GPU-42", {"GPU-42"}, 0.6, 2),
    ],
)
def test_mean_utilisation_and_most_memory_of_the_gpus_that_are_used(
    device: str | int | list[int],
    processes: int | None,
    visible: str | None,
    read: set[object],
    busy: float,
    memory: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml = Nvml()
    metrics = sampled(nvml, monkeypatch, device, processes)
    assert metrics == {"perf/gpu_utilisation": pytest.approx(busy), "perf/gpu_memory_gb": memory}
    assert nvml.read == read


def test_a_run_of_several_processes_is_watched_on_all_its_gpus(
    typed_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml, folder = Nvml(), SimpleNamespace()
    nvml.install(monkeypatch)
    watched: Any = Session(typed_config("model=osnet_x0_25", "train.processes=2"), folder).gpus  # type: ignore[arg-type]
    with watched:
        assert nvml.enough.wait(20)
    assert nvml.read == {0, 1}


def test_an_error_costs_its_sample_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def twice() -> None:
        calls.append(1)
        if len(calls) <= 2:
            raise NvmlError("Unknown Error")

    metrics = sampled(Nvml(twice), monkeypatch)
    assert metrics == {"perf/gpu_utilisation": pytest.approx(0.6), "perf/gpu_memory_gb": 2}
    assert caplog.text.count("Unknown Error") == 1


def test_a_slice_of_a_gpu_has_its_memory_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7")

    def always() -> None:
        raise NvmlError("Not Supported")

    nvml = Nvml(always)
    assert sampled(nvml, monkeypatch) == {"perf/gpu_memory_gb": 2}
    assert nvml.read == {"MIG-7"}
    assert caplog.text.count("utilisation cannot be sampled at the moment: NvmlError: Not Supported") == 1


def test_a_gpu_that_torch_cannot_use_is_not_watched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    nvml = Nvml()
    nvml.install(monkeypatch)
    with GpuMonitor("auto") as monitor:
        assert monitor._thread is not None
        monitor._thread.join(20)
        assert not monitor._thread.is_alive()
        assert monitor.take() == {}
    assert not nvml.read
    assert not caplog.text


@pytest.mark.parametrize(("device", "visible"), [("cpu", "0"), ("mps", "0"), ("auto", "")])
def test_without_a_gpu_nothing_is_started(device: str, visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with GpuMonitor(device) as monitor:
        assert monitor._thread is None
