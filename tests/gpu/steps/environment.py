"""Versions, the card, and its two ceilings: memory bandwidth and matrix products, both measured."""

import os
import shutil
import subprocess
from importlib import metadata
from typing import Any

import torch

from gpu.step import Step

_PACKAGES = ("torch", "torchvision", "accelerate", "ultralytics-opencv-headless", "torchreid", "numpy", "hydra-core")


def run(step: Step) -> None:
    """Import what the other steps import, too, so that a cold disk slows none of them."""
    step.fact("packages", {name: _version(name) for name in _PACKAGES})
    step.fact("cores", os.cpu_count())
    step.fact("memory_gb", round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1))
    shm = shutil.disk_usage("/dev/shm")
    step.fact("dev_shm_gb", round(shm.total / 2**30, 2))
    step.fact("git", _output("git", "rev-parse", "--short", "HEAD"))
    step.fact("cuda", step.setting.cuda)
    if step.setting.cuda:
        properties = torch.cuda.get_device_properties(0)
        step.fact("device", properties.name)
        step.fact("capability", f"{properties.major}.{properties.minor}")
        step.fact("device_memory_gb", round(properties.total_memory / 2**30, 1))
        step.fact("cuda_version", torch.version.cuda)
        step.fact("cudnn", torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
        step.fact("architectures", torch.cuda.get_arch_list())
        query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit"
        step.fact("driver", _output("nvidia-smi", query, "--format=csv,noheader"))
        step.fact("copy_tb_s", round(_copy_bandwidth() / 1e12, 3))
        step.fact("bf16_tflop_s", round(_matrix_rate() / 1e12, 1))
    else:
        step.fact("device", "CPU")
    import torchreid  # noqa: F401
    import torchvision  # noqa: F401
    import ultralytics  # noqa: F401

    step.check("every library can be imported", True)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: {error}"[:80]


def _copy_bandwidth() -> float:
    """Bytes a second, read and written, of a large copy on the device."""
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda").random_(0, 255)
    target = torch.empty_like(source)
    return 2 * source.numel() / cuda_seconds(lambda: target.copy_(source))


def _matrix_rate() -> float:
    """FLOP a second of an 8192 x 8192 x 8192 bf16 product of random matrices."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / cuda_seconds(lambda: left @ right)


def cuda_seconds(work: Any, times: int = 10) -> float:
    """Median seconds of a piece of work on the GPU."""
    for _ in range(3):
        work()
    seconds: list[float] = []
    for _ in range(times):
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        work()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return sorted(seconds)[times // 2]
