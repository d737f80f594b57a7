"""What this process may use of the machine, the limits of its job or container included: cores and memory."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def available_cores() -> int:
    """How many cores it may run on; Slurm and `taskset` grant fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that can still be allocated without swapping."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_left_by_groups()])


def free_shared_memory() -> int | None:
    """Bytes that are free for what processes hand to each other; None where the system has no /dev/shm."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def _left_by_groups() -> Iterator[int]:
    """Bytes that each control group (v2) of the process has left: a container has its own at the root, a job below.

    Files that were read are part of what a group uses, but make room for what a process asks for.
    """
    lines = _OWN_GROUP.read_text().splitlines() if _OWN_GROUP.is_file() else []
    own = _CGROUPS / next((line[4:] for line in lines if line.startswith("0::/")), "")
    for group in (own, *own.parents):
        limit = group / "memory.max"
        if limit.is_file() and (most := limit.read_text().strip()).isdigit():
            kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            cached = int(kinds["active_file"]) + int(kinds["inactive_file"])
            yield int(most) - int((group / "memory.current").read_text()) + cached
