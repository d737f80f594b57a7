"""Lock of a run folder: one process at a time works on a run, also where machines share a file system."""

import errno
import json
import logging
import os
import shlex
import threading
import time
from pathlib import Path
from typing import Any

from watchme.core.errors import RunFolderError
from watchme.core.liveness import has_ended, this_process

log = logging.getLogger(__name__)

LOCK = ".lock"
_BEAT_S = 5.0
# A holder on another machine that has not beaten for so long is lost.
_GRACE_S = 20.0


class RunLock:
    """Held from `acquire` to `release`, or until the process dies.

    The file `.lock` is locked by the system (POSIX record locks: forked loader processes do not inherit them, and NFS
    has them). It names its holder, which changes the file's time every few seconds, for file systems without locks.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._handle: int | None = None
        self._ending = threading.Event()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunFolderError: If another process has it; the message names that process. Or if the folder is read-only.
        """
        handle = self._open()
        holder = _read(handle)
        if not _try_lock(handle) or not self._is_free(holder):
            os.close(handle)
            raise RunFolderError(_in_use(self._path.parent, holder))
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(this_process()).encode(), 0)
        self._handle = handle
        self._ending.clear()
        threading.Thread(target=self._beat, name="run-lock", daemon=True).start()

    def release(self) -> None:
        """Free the lock and remove its file; does nothing where it is not held."""
        self._ending.set()
        if self._handle is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            folder = self._path.parent
            raise RunFolderError(
                f"{folder} cannot be written: {error.strerror}. A run of somebody else goes on as a copy of your own:\n"
                f"    cp -r {shlex.quote(str(folder))} <folder>  # and give that one"
            ) from error

    def _is_free(self, holder: dict[str, Any]) -> bool:
        """Whether the holder that the file names is gone, though the system has granted the lock."""
        if not holder or holder == this_process():
            return True
        ended = has_ended(holder)
        if ended is not None:
            return ended
        # On another machine: only its silence shows that it is gone. Clocks may differ.
        text = "%s was in use by process %s on %s; waiting %.0f s to find out whether it still runs"
        log.info(text, self._path.parent, holder.get("pid"), holder.get("host"), _GRACE_S)
        before = self._path.stat().st_mtime_ns
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline:
            time.sleep(min(1.0, _GRACE_S / 10))
            if not self._path.exists():
                return True
            if self._path.stat().st_mtime_ns != before:
                return False
        return True

    def _beat(self) -> None:
        while not self._ending.wait(_BEAT_S):
            try:
                os.utime(self._path)
            except OSError:
                return


def _try_lock(handle: int) -> bool:
    """Lock the open file for this process; True also where the system or the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks: the holder's beat decides
        return True
    return True


def _read(handle: int) -> dict[str, Any]:
    try:
        value = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _in_use(folder: Path, holder: dict[str, Any]) -> str:
    process = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    return (
        f"{folder} is in use: {process} works on this run, and two would mix their results.\n"
        "    Wait for it or stop it, then give the command again."
    )
