"""Keeps trackers away from the training: they run in a process of their own, behind a queue.

- An import, a login, an upload or a server that does not answer delays only that process.
- An error or a crash there is warned about once; training goes on, and metrics.jsonl has everything.
- It is a process rather than a thread, since a data loader that forks while a thread imports can hang for ever. It is
  no `multiprocessing.Process`, since it must outlive a training that ends before its uploads do.
"""

import contextlib
import logging
import math
import os
import pickle
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from watchme.core.interfaces import Callback, EpochEvent, Picture, Result, Shown, StepEvent, Stop, Table
from watchme.run.run_dir import RunFolder
from watchme.tracking import messages
from watchme.tracking.setup import Setup

log = logging.getLogger(__name__)

LOG = "tracking.log"
_MAIN = "from watchme.tracking.process_main import main; main()"
# Seconds that the end of a run waits for its trackers; after that they finish in the background.
WAIT_S = {"offline": 30.0, "online": 60.0}
# So many messages may wait for a tracking process that is stuck; more are dropped.
_BACKLOG = 2000


class TrackingProcess(Callback):
    """Passes every call on to the tracking process, which reports into the run's manifest.

    It never raises, and never waits before the end.
    """

    def __init__(self, setup: Setup, record: RunFolder) -> None:
        self._record = record
        self._setup = setup
        self._warned: set[str] = set()
        self._shown: Counter[tuple[str, int | None]] = Counter()
        self._stop: str | None = None
        self._wait_s = WAIT_S[setup.wandb.mode if setup.wandb else "offline"]
        self._deadline = math.inf  # of the wait, from the end of the run on
        self._started, self._done = threading.Event(), threading.Event()
        self._outbox: queue.Queue[bytes | None] = queue.Queue(_BACKLOG)
        self._inbox: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()
        self._pictures: Path | None = None
        with (record.path / LOG).open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(record.path),
                # Ctrl-C is for the training, which then reports to the trackers how it ended.
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._put(pickle.dumps(setup))
        for target, pipe in ((self._write, self._process.stdin), (self._read, self._process.stdout)):
            threading.Thread(target=target, args=(pipe,), name="tracking", daemon=True).start()

    def on_resume(self, epoch: int) -> None:
        """Pass it on."""
        self._call("on_resume", epoch)

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Pass it on; ask to stop if the stop button of W&B was pressed."""
        self._call("on_epoch", event)
        self._take_replies()
        return Stop(self._stop) if self._stop else None

    def on_step(self, event: StepEvent) -> None:
        """Pass it on."""
        self._call("on_step", event)

    def on_show(self, item: Shown) -> None:
        """Pass it on, a picture with a copy of its file."""
        if not isinstance(item, Picture):
            if self._setup.charts or not isinstance(item, Table) or item.chart is None:
                self._call("on_show", item)
            return
        kind = (item.name, item.epoch)
        self._shown[kind] += 1
        if self._shown[kind] > self._setup.images or self._done.is_set():
            return
        try:
            # Engines may draw the next epoch's picture into the same file before a tracker has read this one.
            if self._pictures is None:
                self._pictures = Path(tempfile.mkdtemp(prefix="watchme-tracking-"))
            copy = self._pictures / f"{self._shown.total()}{item.path.suffix}"
            shutil.copyfile(item.path, copy)
        except OSError as error:
            self._warn("pictures", f"{item.name} is not tracked: {error}")
            return
        self._call("on_show", replace(item, path=copy))

    def on_end(self, status: str, result: Result | None) -> None:
        """Pass it on, and record what the report says of the trackers, which finish while it is written."""
        # Details may hold anything, and are only for summary.json.
        self._call("on_end", status, None if result is None else replace(result, details={}))
        self._put(None)
        self._deadline = time.monotonic() + self._wait_s
        self._started.wait(self._wait_s)
        self._take_replies()

    def wait(self) -> None:
        """Wait a bounded time for the trackers to finish."""
        finished = self._done.wait(self._left())
        if finished:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(1.0, self._left()))
        self._take_replies()
        if not finished:
            text = f"tracking has not finished after {self._wait_s:.0f} s; it goes on as process {self._process.pid}"
            if self._setup.wandb:
                text += f". Should it be cut off: wandb sync {shlex.quote(str(self._record.path / 'wandb'))}/*run-*"
            self._warn("slow", text)
            return
        if self._pictures is not None:
            shutil.rmtree(self._pictures, ignore_errors=True)
        errors = self._record.path / LOG
        with contextlib.suppress(OSError):
            if errors.stat().st_size == 0:
                errors.unlink()

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _call(self, method: str, *arguments: object) -> None:
        """Queue a call of a tracker's method. It is pickled here, as the training may change what it hands over."""
        try:
            self._put(pickle.dumps((method, arguments)))
        except Exception as error:  # pickle raises what the object's own methods raise
            self._warn("pickle", f"{method} is not tracked: {error}")

    def _put(self, message: bytes | None) -> None:
        if self._done.is_set():
            return
        try:
            self._outbox.put_nowait(message)
        except queue.Full:
            self._warn("backlog", "tracking does not keep up; what it cannot take is only in the run folder")

    def _write(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):  # the process is gone; `_read` notices
            while (message := self._outbox.get()) is not None:
                messages.send(pipe, message)
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(self, pipe: IO[bytes]) -> None:
        kind = None
        for kind, arguments in messages.receive(pipe):
            self._inbox.put((kind, arguments))
            if kind == "started":
                self._started.set()
        if kind != "done":
            self._inbox.put(("warn", ("process", f"the tracking process broke off; see {LOG}")))
        self._started.set()
        self._done.set()

    def _take_replies(self) -> None:
        """Act on what the tracking process reported. Only the training's thread writes the manifest."""
        while not self._inbox.empty():
            kind, arguments = self._inbox.get()
            if kind == "warn":
                self._warn(*arguments)
            elif kind == "stop":
                (self._stop,) = arguments
            elif kind == "record":
                key, value = arguments
                self._record.record(key, {**self._record.manifest.get(key, {}), **value})

    def _warn(self, topic: str, text: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning("Tracking: %s", text)


def _environment(folder: Path) -> dict[str, str]:
    variables = dict(os.environ)
    # The package need not be installed: what the training can import, its trackers can.
    variables["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
    # A notebook that asked W&B for something, or the sweep before it, has a service of its own there: an attempt to be
    # online that failed could not be forgotten in it.
    variables.pop("WANDB_SERVICE", None)
    # W&B's crash reports go to a third party, and its staging area and logs would be in the home folder.
    variables.setdefault("WANDB_ERROR_REPORTING", "false")
    variables.setdefault("WANDB_SILENT", "true")
    variables.setdefault("WANDB_DATA_DIR", str(folder / "wandb" / "data"))
    variables.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))
    # The training has the processors; a tracker is no place for a thread pool.
    return variables | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
