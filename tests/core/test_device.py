"""Devices on machines whose GPU torch cannot use, played by a fake nvidia-smi and a fake torch.cuda."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from watchme.config.schema import RunConfig
from watchme.core import device as core_device
from watchme.core import nvidia
from watchme.core.device import (
    choose_compile_mode,
    choose_deterministic,
    choose_device,
    choose_precision,
    choose_workers,
    use_device,
)
from watchme.core.errors import ConfigError
from watchme.core.interfaces import Job
from watchme.core.nvidia import unsupported_capability
from watchme.core.registry import load_mode
from watchme.engines.yolo import preparation

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`nvidia_smi(driver, cuda)`: two GPUs with a driver, and a torch for a CUDA version that cannot use them."""

    def make(driver: str, cuda: str | None) -> None:
        script = tmp_path / "nvidia-smi"
        script.write_text(
            f"#!/bin/sh\necho 'NVIDIA A100-SXM4-80GB, {driver}'\necho 'NVIDIA A100-SXM4-80GB, {driver}'\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return make


class TestGpuThatTorchCannotUse:
    @pytest.mark.parametrize(
        ("driver", "cuda", "reason"),
        [
            ("535.104.05", "13.2", "driver 535.104.05 is too old for CUDA 13.2.*580 or newer.*a torch for CUDA 12"),
            ("470.82", "12.6", "too old for CUDA 12.6.*525 or newer, or install a torch for CUDA 11"),
            ("580.65", "13.2", "does not start with driver 580.65"),
            ("580.65", None, "is a build without CUDA"),
        ],
    )
    def test_auto_is_the_cpu_and_says_why(self, driver: str, cuda: str | None, reason: str, nvidia_smi: Any) -> None:
        nvidia_smi(driver, cuda)
        told: list[str] = []
        assert choose_device("auto", told.append) == CPU
        (text,) = told
        assert re.search(rf"(?s)2 x NVIDIA A100.*{reason}.*train\.device=cpu", text), text

    def test_detectors_and_callers_without_a_job_get_the_reason_too(
        self, nvidia_smi: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        nvidia_smi("535.104.05", "13.2")
        told: list[str] = []
        assert preparation.choose_device("auto", told.append) == "cpu"
        assert len(told) == 1
        assert "too old" in told[0]
        assert choose_device("auto") == CPU
        assert "too old" in caplog.text

    @pytest.mark.parametrize("mode", ["train", "evaluate"])
    @pytest.mark.parametrize("model", ["osnet_x0_25", "yolo11n"])
    def test_every_mode_records_the_reason(
        self, model: str, mode: str, nvidia_smi: Any, typed_config: Callable[..., RunConfig], tmp_path: Path
    ) -> None:
        """It is a fallback of the job, which run.json keeps, and the first thing that the job hears."""

        class FirstHeardError(Exception):
            pass

        def hear(*values: object) -> None:
            raise FirstHeardError(*values)

        (weights := tmp_path / "weights.pt").touch()
        config = typed_config(f"model={model}", f"mode={mode}", *[f"checkpoint={weights}"] * (mode == "evaluate"))
        work = load_mode(config.model.engine, mode)  # which imports torch's own users of what is faked here
        nvidia_smi("535.104.05", "13.2")
        with pytest.raises(FirstHeardError, match=r"^this run is on the CPU: 2 x NVIDIA A100"):
            work(Job(config, tmp_path, record=hear, fallback=hear))

    @pytest.mark.parametrize("wanted", [0, "cuda", [1]])
    def test_asked_for_it_is_an_error(self, wanted: Any, nvidia_smi: Any) -> None:
        nvidia_smi("535.104.05", "13.2")
        with pytest.raises(ConfigError, match=r"too\s+old\s+for\s+CUDA\s+13\.2"):
            choose_device(wanted)

    @pytest.mark.parametrize("visible", ["", "-1", "-1,0", "NoDevFiles"])
    def test_a_gpu_that_was_hidden_is_not_missed(
        self, visible: str, nvidia_smi: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last is Slurm's, in a job that was given none."""
        nvidia_smi("535.104.05", "13.2")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        told: list[str] = []
        assert choose_device("auto", told.append) == CPU
        assert not told

    @pytest.mark.parametrize(
        ("capability", "fits"), [((7, 0), False), ((7, 5), True), ((8, 9), True), ((9, 0), True), ((12, 1), True)]
    )
    def test_capability_is_held_against_the_kernels(
        self, capability: tuple[int, int], fits: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kernels = ["sm_75", "sm_80", "sm_86", "sm_90a", "sm_100", "sm_120", "compute_120"]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Tesla V100")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)
        reason = unsupported_capability(0)
        assert (reason is None) == fits
        told: list[str] = []
        assert choose_device("auto", told.append).type == ("cuda" if fits else "cpu")
        assert bool(told) != fits
        if not fits:
            with pytest.raises(ConfigError, match=r"Tesla V100 has compute capability 7\.0, for which this torch"):
                choose_device(0)


@pytest.mark.parametrize("name", ["xpu", "meta", "gpu", "cuda:-1"])
def test_other_devices_of_torch_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected auto, cpu, cuda, mps, or GPU numbers"):
        choose_device(name)


def test_nvidia_smi_is_not_asked_where_torch_can_use_the_gpu(nvidia_smi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many GPUs, and a driver that must start first, it takes many seconds."""
    nvidia_smi("580.65", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nvidia, "list_gpus", lambda: pytest.fail("nvidia-smi was asked"))
    assert nvidia.unusable_gpu() is None


def test_the_device_becomes_cudas_current_one_and_float32_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the loader's pinning thread and monitors open a context on GPU 0."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for tf32 in (True, False):
        use_device(torch.device("cuda", 1), tf32=tf32)
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    assert current == [torch.device("cuda", 1)] * 2
    use_device(CPU, tf32=False)
    use_device(torch.device("cuda"), tf32=False)  # which is the current one
    assert len(current) == 2


@pytest.mark.parametrize(
    ("wanted", "device", "steps", "mode"),
    [
        ("auto", GPU, 10_000, "cudagraphs"),
        ("auto", GPU, 99, None),
        ("auto", GPU, 0, None),
        ("cudagraphs", GPU, 1, "cudagraphs"),
        ("auto", CPU, 10_000, None),
        ("off", GPU, 10_000, None),
        (False, GPU, 10_000, None),
        (True, CPU, 1, "default"),
        ("reduce-overhead", GPU, 1, "reduce-overhead"),
    ],
)
def test_compile_mode(wanted: Any, device: torch.device, steps: int, mode: str | None) -> None:
    assert choose_compile_mode(wanted, device, steps) == mode


@pytest.mark.parametrize(("device", "steps"), [(CPU, 10_000), (GPU, 0)])
def test_graphs_that_do_not_fit_are_refused(device: torch.device, steps: int) -> None:
    with pytest.raises(ConfigError, match=r"(?s)train\.compile.*needs one CUDA GPU.*one batch a step"):
        choose_compile_mode("cudagraphs", device, steps)


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "precision"), [(True, True, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_a_cpu_trains_in_bf16_where_it_is_fast_at_it(
    amx: bool, avx512_bf16: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    assert choose_precision("auto", CPU) == precision


def test_loader_processes_follow_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)), raising=False)
    assert choose_workers(3, CPU) == 3
    assert choose_workers(None, CPU) == 4
    assert choose_workers(None, GPU) == 12
    assert choose_workers(None, GPU, processes=8) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert choose_workers(None, GPU, processes=8) == 1


@pytest.mark.parametrize(
    ("free_mb", "device", "batch", "workers"),
    [
        (64, CPU, 32, 4),
        (64, CPU, 100, 2),
        (64, GPU, 64, 4),
        (64, GPU, 512, 0),
        (1024, GPU, 512, 9),
        (None, GPU, 512, 12),
    ],
)
def test_loader_processes_follow_the_shared_memory(
    free_mb: int | None, device: torch.device, batch: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker gives a container 64 MB: evaluations by the defaults, in batches of 100 and 512, needed more."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)), raising=False)
    monkeypatch.setattr(core_device, "free_shared_memory", lambda: None if free_mb is None else free_mb * 2**20)
    assert choose_workers(None, device, batch_bytes=batch * 256 * 128 * 3) == workers


def test_determinism_is_a_cpus_unless_asked_for() -> None:
    assert [choose_deterministic("auto", device) for device in (CPU, GPU)] == [True, False]
    assert [choose_deterministic(wanted, GPU) for wanted in (True, False)] == [True, False]
