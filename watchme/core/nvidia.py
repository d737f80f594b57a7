"""Why torch cannot use an NVIDIA GPU of the machine: an old driver, an unsupported card, a build without CUDA."""

import shutil
import subprocess
from dataclasses import dataclass

import torch

from watchme.core.cuda_visible_devices import cuda_visible_devices

# The oldest driver of each major CUDA version (docs.nvidia.com/deploy/cuda-compatibility), and the wheels for it.
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
_SILENCE = "train.device=cpu chooses the CPU without this warning"


@dataclass(frozen=True)
class Gpu:
    """What nvidia-smi says of a GPU."""

    name: str
    driver: str


def list_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists, whether torch can use them or not; none where CUDA_VISIBLE_DEVICES hides all."""
    if cuda_visible_devices() == [] or shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line)
    return [Gpu(name.strip(), driver.strip()) for name, driver in rows]


def unusable_gpu() -> str | None:
    """Why torch sees no GPU although nvidia-smi lists some, with the fix; None where there is nothing to say."""
    if torch.cuda.is_available() or not (gpus := list_gpus()):
        return None
    here = f"{len(gpus)} x {gpus[0].name}" if len(gpus) > 1 else gpus[0].name
    cuda = torch.version.cuda
    if cuda is None:
        reason = f"this torch ({torch.__version__}) is a build without CUDA; install one with it: pip install torch"
    else:
        major = int(cuda.split(".")[0])
        oldest = _OLDEST_DRIVER.get(major)
        driver = int(gpus[0].driver.split(".")[0]) if gpus[0].driver.split(".")[0].isdigit() else None
        if oldest is not None and driver is not None and driver < oldest:
            older = max((version for version, least in _OLDEST_DRIVER.items() if least <= driver), default=None)
            instead = f", or install a torch for CUDA {older}" if older else ""
            reason = (
                f"its driver {gpus[0].driver} is too old for CUDA {cuda}, which this torch needs; update it to "
                f"{oldest} or newer{instead} (see docs/gpu.md)"
            )
        else:
            reason = (
                f"CUDA {cuda} does not start with driver {gpus[0].driver}; `python -c 'import torch; "
                "torch.cuda.init()'` says why (see docs/gpu.md)"
            )
    return f"{here} is here, but torch cannot use it: {reason}. {_SILENCE}"


def unsupported_capability(index: int) -> str | None:
    """Why this torch has no kernels for a GPU that it sees, with the fix; None where it has them."""
    major, minor = torch.cuda.get_device_capability(index)
    kernels = torch.cuda.get_arch_list()
    for kernel in kernels:
        kind, _, number = kernel.partition("_")
        digits = "".join(each for each in number if each.isdigit())
        if not digits:
            return None  # another kind of build, e.g. ROCm
        its_major, its_minor = int(digits[:-1]), int(digits[-1])
        # Machine code runs within a major version, intermediate code (compute_) on everything newer.
        fits = its_major == major and its_minor <= minor
        if fits or (kind == "compute" and (its_major, its_minor) <= (major, minor)):
            return None
    if not kernels:
        return None
    return (
        f"{torch.cuda.get_device_name(index)} has compute capability {major}.{minor}, for which this torch "
        f"({torch.__version__}) has no kernels (it has {', '.join(kernels)}); install a torch for an older CUDA "
        "(see docs/gpu.md)"
    )
