"""The GPUs that the slots of a sweep share, found without importing torch into the sweep's process."""

import logging
import os
import re
import shutil
import subprocess
import sys

from watchme.core.cuda_visible_devices import VARIABLE, cuda_visible_devices
from watchme.core.errors import ConfigError, Problem

_KEY = "hydra.sweeper.gpus"
# "GPU 0: NVIDIA H100 (UUID: GPU-...)", and below it "  MIG 1g.10gb  Device  0: (UUID: MIG-...)" for each slice.
_GPU = re.compile(r"^GPU (\d+):")
_SLICE = re.compile(r"\(UUID: (MIG-[^)]+)\)")
log = logging.getLogger(__name__)


def visible_gpus(choice: str | list[int]) -> list[str]:
    """The GPUs that slots may use, as `CUDA_VISIBLE_DEVICES` names them: indices, or UUIDs of MIG slices.

    Numbers of `hydra.sweeper.gpus` count within `CUDA_VISIBLE_DEVICES` where that is set, as `train.device` does, so
    that a sweep keeps to the GPUs that it was given.

    Raises:
        ConfigError: If it is neither auto, none nor a list, or names a number beyond `CUDA_VISIBLE_DEVICES`.
    """
    given = cuda_visible_devices()
    if isinstance(choice, list):
        if given is None:
            return [str(number) for number in choice]
        if beyond := [number for number in choice if not 0 <= number < len(given)]:
            expected = f"{VARIABLE}={os.environ[VARIABLE]} has {len(given)} GPUs, which are numbered from 0"
            raise ConfigError([Problem(_KEY, expected, str(beyond))])
        return [given[number] for number in choice]
    if choice == "none":
        return []
    if choice != "auto":
        raise ConfigError([Problem(_KEY, "expected auto, none, or a list such as [0,1]", repr(choice))])
    return _listed() if given is None else given


def usable_gpus(choice: str | list[int]) -> list[str]:
    """`visible_gpus`, or none if torch cannot use them, which is logged."""
    found = visible_gpus(choice)
    if found and not _torch_has_cuda():
        log.warning(
            "There are %d GPUs (%s), but torch cannot use them: see `nvidia-smi` for the driver's CUDA version, and "
            "`python -c 'import torch; print(torch.version.cuda)'`. Trials share the CPU; hydra.sweeper.gpus=none says "
            "so explicitly.",
            len(found),
            ", ".join(found),
        )
        return []
    return found


def assign(gpus: list[str], slots: int) -> list[str | None]:
    """The GPU of each slot, round robin; None for each if there are no GPUs."""
    return [gpus[slot % len(gpus)] if gpus else None for slot in range(slots)]


def environment(gpu: str | None) -> dict[str, str]:
    """Environment variables with which a process sees this GPU only; none for None.

    nvidia-smi counts GPUs by PCI bus, and CUDA by default the fastest first, so that on a machine with different GPUs
    an index would mean two of them.
    """
    if gpu is None:
        return {}
    by_bus = gpu.isdigit() and VARIABLE not in os.environ and "CUDA_DEVICE_ORDER" not in os.environ
    return {VARIABLE: gpu, **({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if by_bus else {})}


def _listed() -> list[str]:
    """What `nvidia-smi -L` lists: indices of GPUs, and the UUIDs of their slices in place of those that have MIG."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if match := _GPU.match(line):
            found[match[1]] = []
        elif (match := _SLICE.search(line)) and found:
            found[list(found)[-1]].append(match[1])
    return [name for index, slices in found.items() for name in slices or [index]]


def _torch_has_cuda() -> bool:
    """Asked in another process: CUDA must not be initialised here, and importing torch takes seconds and memory."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"],
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.stdout.strip() == "True"
