"""Which GPU a slot sees, found without importing torch."""

import os
import shutil
import subprocess

from watchme.core.errors import ConfigError, Problem


def visible(choice: str | list[int]) -> list[str]:
    """GPUs that may be shared out, as `CUDA_VISIBLE_DEVICES` names them.

    Args:
        choice: `hydra.sweeper.gpus`: auto, none, or a list of numbers.

    Raises:
        ConfigError: If it is something else.
    """
    if isinstance(choice, list):
        return [str(number) for number in choice]
    if choice == "none":
        return []
    if choice != "auto":
        raise ConfigError([Problem("hydra.sweeper.gpus", "expected auto, none, or a list such as [0,1]", repr(choice))])
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip().isdigit()]


def share(gpus: list[str], slots: int) -> list[str | None]:
    """The GPU of each slot, in turn; None for each where there are no GPUs."""
    return [gpus[slot % len(gpus)] if gpus else None for slot in range(slots)]
