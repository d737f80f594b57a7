"""`train.py` as a user starts it: run folders, limits, and what is left running afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from gpu.setting import PROJECT, Setting


class Command:
    """A started `train.py`, in a session of its own.

    Args:
        setting: The proof's options.
        name: Names its run folder and its log.
        overrides: Its command line; the run folder is added.
        environment: More variables.
        folder: The run folder, where it is not a fresh one (`train.resume`).
    """

    def __init__(
        self,
        setting: Setting,
        name: str,
        overrides: list[str],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.folder = folder or setting.work / "runs" / name
        self.log = setting.work / "log" / f"{name}.txt"
        key = "hydra.sweep.dir" if "-m" in overrides else "hydra.run.dir"
        fresh = [] if folder else [f"{key}={self.folder}"]
        arguments = ["train.py", *overrides, "tracker=none", *fresh]
        threads = {} if setting.tiny else {"OMP_NUM_THREADS": "4"}  # several run side by side
        self._start = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                env=setting.environment(**{**threads, **(environment or {})}),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.seen: dict[int, psutil.Process] = {}

    def wait(self, limit: float) -> int | None:
        """Its status, or None where it had to be killed after `limit` seconds."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            self.descendants()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(0.25)
        self.kill()
        return None

    def wait_until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Whether a condition came about before the process ended and the limit passed."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and self.process.poll() is None:
            self.descendants()
            if condition():
                return True
            time.sleep(0.1)
        return condition()

    def descendants(self) -> list[psutil.Process]:
        """Every process that it has ever been seen to have started and that still runs."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                self.seen.setdefault(process.pid, process)
        return [process for process in self.seen.values() if _runs(process)]

    def left_over(self, limit: float = 10.0) -> list[str]:
        """Command lines of processes that outlive it by more than `limit` seconds; they are killed."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and self.descendants():
            time.sleep(0.25)
        left = []
        for process in self.descendants():
            with contextlib.suppress(psutil.Error):
                left.append(" ".join(process.cmdline())[-120:])
                process.kill()
        return left

    def kill(self) -> None:
        """End it and all that it started."""
        for process in [*self.descendants()]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._start

    def output(self, end: int = 1500) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-end:]

    def manifest(self) -> dict[str, Any]:
        """run.json, empty where there is none."""
        return _json(self.folder / "run.json")

    def summary(self) -> dict[str, Any]:
        """summary.json, empty where there is none."""
        return _json(self.folder / "summary.json")

    def epochs(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl after the first epoch's beginning."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):  # the last line may be half written
                found.append(json.loads(line))
        return [line for line in found if line.get("epoch")]

    def last_epoch(self) -> int:
        """How many epochs have ended."""
        return max((int(line["epoch"]) for line in self.epochs()), default=0)


def run_all(commands: Mapping[str, Command], limit: float) -> dict[str, int | None]:
    """Wait for commands that run side by side; their statuses."""
    deadline = time.monotonic() + limit
    return {name: command.wait(max(1.0, deadline - time.monotonic())) for name, command in commands.items()}


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
