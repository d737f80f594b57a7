"""`train.device`: how it may be spelled, and what can be wrong with it before torch is imported."""

import os
import re
from collections import Counter
from collections.abc import Iterator

from watchme.core.errors import Problem

Device = str | int | list[int]

# By which launchers say that they start several processes; accelerate reads all of them, and would wait for the others.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANK = "LOCAL_RANK"
# What `accelerate launch` sets also for one process. The OSNet engine's accelerate obeys, e.g. divides the loss.
_ACCELERATE = re.compile("ACCELERATE_(MIXED_PRECISION|GRADIENT_|USE_|DYNAMO_|TORCH_DEVICE|CPU_AFFINITY)")


def parse_device(device: Device) -> Device:
    """A list of GPU numbers for `"0,1"`, as ultralytics and CUDA_VISIBLE_DEVICES spell it, and for `"cuda:0,1"`; else
    what it was."""
    if isinstance(device, str) and "," in device:
        numbers = [number.strip().removeprefix("cuda:") for number in device.split(",")]
        if all(number.isdigit() for number in numbers):
            return [int(number) for number in numbers]
    return device


def device_problems(device: Device) -> Iterator[Problem]:
    """What is wrong with the devices of a run, or with how its process was started."""
    expected = "expected auto, cpu, cuda, mps, or GPU numbers such as [0,1]"
    if isinstance(device, list):
        twice = [number for number, count in Counter(device).items() if count > 1]
        if twice:
            again = f"names GPU {twice[0]} more than once; each process needs a GPU of its own"
            yield Problem("train.device", again, repr(device))
        if min(device, default=0) < 0:
            yield Problem("train.device", expected, repr(device))
    elif isinstance(device, str) and "," in device:
        yield Problem("train.device", expected, repr(device))
    sizes = [name for name in _SIZES if os.environ.get(name, "1") != "1"]
    if _RANK in os.environ or sizes:
        found = ", ".join(f"{name}={os.environ[name]}" for name in (*sizes, _RANK) if name in os.environ)
        yield Problem(
            "train.device",
            f"{found} is in the environment, so this process was started by torchrun, accelerate launch, mpirun or a "
            "job that starts several. train.py starts its own processes:\n"
            "python train.py ... train.device=[0,1]      (without torchrun; in a job: one process a node)",
            repr(device),
        )
    if settings := sorted(filter(_ACCELERATE.match, os.environ)):
        found = ", ".join(f"{name}={os.environ[name]}" for name in settings[:3]) + " ..." * (len(settings) > 3)
        yield Problem(
            "train.device",
            f"{found} in the environment would change the training beside its config. Start it without accelerate "
            "launch, or unset them; our keys are train.precision, train.accumulate, train.compile and train.device:\n"
            "python train.py ...",
            repr(device),
        )
