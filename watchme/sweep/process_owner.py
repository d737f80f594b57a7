"""Which process a running trial belongs to, and whether that process still lives."""

import os
import platform
import socket
import time
from pathlib import Path
from typing import Any

OWNER = "watchme:owner"
BEAT = "watchme:beat"


def me() -> dict[str, Any]:
    """This process: machine, number, and when it was started, as numbers are used again."""
    return {"machine": _machine(), "host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(owner: dict[str, Any] | None) -> bool | None:
    """Whether a process has ended; None where that cannot be seen from here."""
    if owner is None or owner.get("machine") != _machine():
        return None
    pid = int(owner["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # A zombie has ended too: nobody has fetched its status yet.
    return _started(pid) != owner.get("started")


class Pulses:
    """Tells by silence which trials of other machines are lost. Only this machine's clock is used."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._heard: dict[int, tuple[Any, float]] = {}

    def is_silent(self, trial_id: int, beat: Any) -> bool:
        """Whether `beat` has stayed the same for the time of grace, since it was first seen here."""
        now = time.monotonic()
        last, since = self._heard.get(trial_id, (object(), now))
        if last != beat:
            self._heard[trial_id] = (beat, now)
            return False
        return now - since > self.grace_s


def _machine() -> str:
    """Host, boot and process namespace: a number of a process means the same only where all three are equal."""
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
