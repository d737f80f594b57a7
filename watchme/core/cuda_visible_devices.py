"""The environment variable CUDA_VISIBLE_DEVICES, as CUDA reads it."""

import itertools
import os
import re

VARIABLE = "CUDA_VISIBLE_DEVICES"
_NAME = re.compile(r"\d+$|(GPU|MIG)-")


def cuda_visible_devices() -> list[str] | None:
    """The indices and UUIDs of GPUs that it lists; None where it is not set.

    The list ends at the first entry that names no GPU: `-1`, or `NoDevFiles`, which Slurm sets in a job without GPUs.
    """
    text = os.environ.get(VARIABLE)
    return None if text is None else list(itertools.takewhile(_NAME.match, map(str.strip, text.split(","))))
