"""Device, precision, compilation and loader processes of a run on this machine; the message when a GPU is full."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch

from watchme.core.errors import ConfigError, Problem, TrainingError
from watchme.core.nvidia import unsupported_capability, unusable_gpu
from watchme.core.resources import available_cores, free_shared_memory

log = logging.getLogger(__name__)

# Recording takes as long as some dozens of steps.
_GRAPH_STEPS = 100
_FULL = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


def choose_device(wanted: str | int | list[int], fallback: Callable[[str], None] = log.warning) -> torch.device:
    """Return the device that `train.device` names; of several GPUs the first.

    `fallback` takes the reason why `auto` is the CPU although there is a GPU: `job.fallback` where there is a job.

    Raises:
        ConfigError: If the machine does not have it, or torch cannot use it.
    """
    if isinstance(wanted, list):
        wanted = wanted[0] if wanted else "auto"
    name = str(wanted)
    if name == "auto":
        return _best_device(fallback)
    if name.isdigit():
        name = f"cuda:{name}"
    expected = "expected auto, cpu, cuda, mps, or GPU numbers"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _refused(expected, wanted) from None
    if device.type not in ("cpu", "cuda", "mps"):  # torch knows more, e.g. xpu and meta
        raise _refused(expected, wanted)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise _refused("this machine has no GPU of Apple's, or torch cannot use it; use auto or cpu", wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if reason := unusable_gpu():
            raise _refused(reason, wanted)
        if (device.index or 0) >= count:
            here = {0: "no CUDA device that torch can use", 1: "one CUDA device, 0"}
            there = here.get(count, f"{count} CUDA devices, 0 to {count - 1}")
            raise _refused(
                f"this machine has {there}; use {'auto or cpu' if count == 0 else 'auto, cpu or a number'}", wanted
            )
        if reason := unsupported_capability(device.index or 0):
            raise _refused(reason, wanted)
    return device


def _best_device(fallback: Callable[[str], None]) -> torch.device:
    if torch.cuda.is_available():
        reason = unsupported_capability(0)
        if reason is None:
            return torch.device("cuda")
        fallback(f"this run is on the CPU: {reason}")
        return torch.device("cpu")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if reason := unusable_gpu():
        fallback(f"this run is on the CPU: {reason}")
    return torch.device("cpu")


def _refused(expected: str, found: object) -> ConfigError:
    return ConfigError([Problem("train.device", expected, repr(found))])


def choose_devices(
    wanted: str | int | list[int], processes: int | None, fallback: Callable[[str], None] = log.warning
) -> list[torch.device]:
    """Return a device for each training process.

    `train.processes` None is as many as `wanted` lists, else one. Several on `auto` or `cuda` take the first GPUs, on
    `cpu` they share it.

    Raises:
        ConfigError: If the machine does not have them, or torch cannot use them.
    """
    if isinstance(wanted, list) and len(wanted) > 1:
        return [choose_device(number) for number in wanted]
    first = choose_device(wanted, fallback)
    if first.type != "cuda" or processes is None or processes == 1:
        return [first] * (processes or 1)
    if processes > (count := torch.cuda.device_count()):
        expected = f"each process needs a GPU, and this machine has {count}; lower it, or set train.device=cpu"
        raise ConfigError([Problem("train.processes", expected, repr(processes))])
    return [choose_device(number) for number in range(processes)]


def use_device(device: torch.device, *, tf32: bool) -> None:
    """Make a device the current one, and say how exact float32 is on it; for the whole process.

    Else CUDA's current device stays 0, and pinned memory and monitors open a context on GPU 0. TF32 has 10 bits of
    mantissa and is several times as fast, from Ampere on; torch's own default is yes for convolutions and no for matrix
    products.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    # torch 2.9's fp32_precision would be newer, but setting it makes torch.compile's reading of these two an error.
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def choose_deterministic(wanted: bool | str, device: torch.device) -> bool:
    """Return whether operations are deterministic; `auto`: except on CUDA, where that makes convolutions slow."""
    return device.type != "cuda" if wanted == "auto" else bool(wanted)


def choose_workers(wanted: int | None, device: torch.device, processes: int = 1, batch_bytes: int = 0) -> int:
    """Return how many processes load data; None: as cores and shared memory allow, 12 for a GPU, 4 for a CPU at most.

    Args:
        wanted: `train.workers`.
        device: What they load for.
        processes: How many train on this machine, each with loader processes of its own.
        batch_bytes: Size of a batch, of which each loader process has two in shared memory.
    """
    if wanted is not None:
        return wanted
    most = max(1, min(available_cores() // processes, 12 if device.type == "cuda" else 4))
    free = free_shared_memory()
    if free is None or not batch_bytes:
        return most
    # Two more batches are on their way. 0: this process loads them itself, without shared memory.
    return max(0, min(most, (free // processes // batch_bytes - 2) // 2))


def choose_compile_mode(wanted: bool | str, device: torch.device, steps: int) -> str | None:
    """Return a mode of torch.compile, or cudagraphs, which compiles nothing; None: neither.

    Args:
        wanted: `train.compile`: auto, off, cudagraphs, default, reduce-overhead, or true and false for default and off.
        device: Where the model is.
        steps: With batches of one size, in all; 0 where CUDA graphs do not fit.

    Raises:
        ConfigError: If cudagraphs are asked for where they do not fit.
    """
    fits = device.type == "cuda" and steps > 0
    if wanted == "cudagraphs" and not fits:
        expected = (
            "cudagraphs needs one CUDA GPU, one batch a step and batches of one size (at least as many images as "
            f"train.batch_size); this run is on {device}. Use auto or off"
        )
        raise ConfigError([Problem("train.compile", expected, "'cudagraphs'")])
    if wanted == "auto":
        return "cudagraphs" if fits and steps >= _GRAPH_STEPS else None
    if wanted in (False, "off"):
        return None
    return "default" if wanted is True else str(wanted)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether torch could not allocate memory on a device; CUDA alone has an error of its own for that."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _FULL)


@contextlib.contextmanager
def out_of_memory_explained(device: torch.device, advice: str) -> Iterator[None]:
    """One message for a device that is full within the block.

    Raises:
        TrainingError: With the numbers, and `advice`: the keys that help.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory(error, device, advice) from error


def _out_of_memory(error: RuntimeError, device: torch.device, advice: str) -> TrainingError:
    numbers = ""
    if device.type == "cuda" and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info(device)
        own = torch.cuda.max_memory_allocated(device)
        numbers = (
            f" ({total / 2**30:.1f} GB in all, {free / 2**30:.1f} GB free, this process took {own / 2**30:.1f} GB)"
        )
    first = str(error).splitlines()[0] if str(error) else "out of memory"
    return TrainingError(f"out of memory on {device}{numbers}; {advice}.\n    torch says: {first}")


def choose_precision(wanted: str, device: torch.device, key: str = "train.precision") -> str:
    """Return fp32, fp16 or bf16 for what `key` asks for; `auto` takes bf16 only where the hardware is fast at it.

    A step of OSNet takes 0.5 to 0.85 of its time in bf16 on a CPU with AVX512-BF16 (measured on Zen 4, by model and
    size) or AMX, and 10 times as long on one without, so `auto` is fp32 there. GPUs have fast bf16 from compute
    capability 8.0 (Ampere) on, and fp16 from 7.0 on.

    Raises:
        ConfigError: If fp16 is asked for on a CPU, which has no fast way of it.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigError([Problem(key, "fp16 needs a GPU; use auto, fp32 or bf16 on a CPU", "'fp16'")])
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return "bf16" if major >= 8 else "fp16" if major >= 7 else "fp32"
    if device.type == "cpu" and _has_fast_bf16():
        return "bf16"
    return "fp32"


def _has_fast_bf16() -> bool:
    queries = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return any(query is not None and query() for query in queries)
