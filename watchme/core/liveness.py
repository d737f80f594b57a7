"""Whether a process that wrote its identity into a file still runs, and whether one is stopped."""

import os
import platform
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Identity of this process, to be written down: machine, process id and start time, as ids are used again."""
    return {"machine": _machine(), "host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def has_ended(process: Mapping[str, Any] | None) -> bool | None:
    """Whether the process that `this_process` described has ended; None where that cannot be seen from this machine."""
    if process is None or process.get("machine") != _machine():
        return None
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # A zombie has ended too: its parent has not fetched its status yet.
    return _started(pid) != process.get("started")


def is_stopped_for(pid: int, seconds: float, poll: float = 0.5) -> bool:
    """Wait until a process has been stopped (SIGSTOP, Ctrl-Z, a debugger) for some seconds; False once it has ended.

    Time in which this process is stopped itself, as by Ctrl-Z in a terminal, does not count.
    """
    import psutil

    stopped = 0.0
    while True:
        time.sleep(poll)
        try:
            status = psutil.Process(pid).status()
        except psutil.NoSuchProcess:
            return False
        if status == psutil.STATUS_ZOMBIE:
            return False
        stopped = stopped + poll if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else 0.0
        if stopped >= seconds:
            return True


def _machine() -> str:
    """Host, boot and process namespace: a process id means the same only where all three are equal."""
    parts = [socket.gethostname()]
    for read in (_boot, _namespace):
        try:
            parts.append(read())
        except OSError:
            parts.append(platform.node())
    return "/".join(parts)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> str | None:
    """Start of a process in clock ticks since boot; None for one that has ended."""
    try:
        # The name of a program may hold spaces and brackets; what follows the last bracket does not.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else "unknown"
    return None if fields[0] in ("Z", "X") else fields[19]
