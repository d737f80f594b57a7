"""Device and precision of a run: `train.device`, `train.processes` and `train.precision` on this machine."""

import torch

from watchme.core.errors import ConfigError, Problem


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
