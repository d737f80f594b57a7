"""How much memory a process may still take, the limit of its container included."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that can still be allocated without swapping."""
    available = int(psutil.virtual_memory().available)
    limit, used = (_CGROUP / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
        return min(available, int(text) - int(used.read_text()))
    return available
