"""Seeds, device and precision of a run."""

import os
import random
from typing import Any

import numpy as np
import torch

from watchme.core.errors import ConfigError, Problem


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, NumPy and torch, and choose deterministic operations where torch has them.

    Args:
        seed: Any non-negative integer; NumPy takes it modulo 2**32.
        deterministic: Whether the same seed must give the same numbers on the same machine, at some cost in speed.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Else each new tensor is filled with NaN first: a fifth of an OSNet step on a CPU, and nothing reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


def choose_device(wanted: str | int | list[int]) -> torch.device:
    """Return the device that `train.device` names; of several GPUs the first.

    Raises:
        ConfigError: If the machine does not have it.
    """
    if isinstance(wanted, list):
        wanted = wanted[0] if wanted else "auto"
    name = str(wanted)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.isdigit():
        name = f"cuda:{name}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            [Problem("train.device", "expected auto, cpu, cuda, mps, or GPU numbers", repr(wanted))]
        ) from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count()
        expected = f"this machine has {count} CUDA devices; use auto or cpu" + (f", or 0..{count - 1}" if count else "")
        raise ConfigError([Problem("train.device", expected, repr(wanted))])
    return device


def choose_devices(wanted: str | int | list[int], processes: int | None) -> list[torch.device]:
    """Return a device for each training process.

    Args:
        wanted: `train.device`. A list names GPUs, one for each process.
        processes: `train.processes`; None: as many as `wanted` lists, else one. Several on `auto` or `cuda` take the
            first GPUs, on `cpu` they share it.

    Raises:
        ConfigError: If the machine does not have them.
    """
    if isinstance(wanted, list) and len(wanted) > 1:
        return [choose_device(number) for number in wanted]
    first = choose_device(wanted)
    if first.type != "cuda" or processes is None or processes == 1:
        return [first] * (processes or 1)
    return [choose_device(number) for number in range(processes)]


def choose_precision(wanted: str, device: torch.device) -> str:
    """Return fp32, fp16 or bf16 for `train.precision`; `auto` takes bf16 only where the hardware is fast at it.

    A CPU without AMX is slower in bf16 than in fp32 (10 times without AVX512-BF16, measured with OSNet), so `auto`
    is fp32 there. GPUs have fast bf16 from compute capability 8.0 (Ampere) on, and fp16 from 7.0 on.

    Raises:
        ConfigError: If fp16 is asked for on a CPU, which has no fast way of it.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigError([Problem("train.precision", "fp16 needs a GPU; use auto, fp32 or bf16 on a CPU", "'fp16'")])
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return "bf16" if major >= 8 else "fp16" if major >= 7 else "fp32"
    if device.type == "cpu" and _has_amx():
        return "bf16"
    return "fp32"


def _has_amx() -> bool:
    query = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(query is not None and query())


def rng_state() -> dict[str, Any]:
    """State of the generators of Python, NumPy and torch, in types that torch.load(weights_only=True) reads."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, cached = legacy
    return {
        "python": [version, list(words), gauss],
        "numpy": [torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng_state(state: dict[str, Any]) -> None:
    """Set the generators to what `rng_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    cuda = state["cuda"]
    if torch.cuda.is_available() and isinstance(cuda, list) and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
