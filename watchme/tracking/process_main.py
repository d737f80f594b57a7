"""Entry point of the tracking process: reads calls from its standard input, and drives TensorBoard and W&B.

Each tracker is independent: one that breaks is reported once and left out, and the others go on.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import IO, Any

from watchme.core.interfaces import Picture
from watchme.tracking.messages import Replies, receive
from watchme.tracking.setup import Setup
from watchme.tracking.skipped_imports import skipped
from watchme.tracking.tracker import Tracker

# The training goes first: on a machine that is busy with it, trackers take what it leaves.
_NICE = 10
_IDLE_S = 1.0
_ENDED = ("ended", ())


class _Guarded:
    """One tracker, created when the process starts, and left alone after its first error."""

    def __init__(self, name: str, make: Callable[[], Tracker], replies: Replies) -> None:
        self._name = name
        self._replies = replies
        self._tracker: Tracker | None = None
        with self._reporting():
            self._tracker = make()

    def call(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Call a method of the tracker, if it still works."""
        if self._tracker is not None:
            with self._reporting():
                getattr(self._tracker, method)(*arguments)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tracker = None
            traceback.print_exc()
            text = " ".join(str(error).split()) or type(error).__name__
            self._replies.warn(self._name, f"{self._name} is off for the rest of this run: {text[:300]}")


def main() -> None:
    """Run until the training says how it ended, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    incoming, outgoing = _take_pipes()
    # W&B's Logs tab shows what is written here, which is to go nowhere else; libraries report errors on stderr.
    sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115
    replies = Replies(outgoing)
    messages = receive(incoming)
    setup: Setup = next(messages)
    sys.argv = list(setup.argv)
    trackers = _trackers(setup, replies)
    replies.started()

    def call(method: str, *arguments: Any) -> None:
        for tracker in trackers:
            tracker.call(method, arguments)

    copies = set()
    for method, arguments in _with_idle(messages):
        if (method, arguments) == _ENDED:  # the training was killed
            call("on_end", "killed", None)
            break
        call(method, *arguments)
        if method == "on_end":
            break  # a data loader's process may hold the other end of the pipe open
        if method == "on_show" and isinstance(arguments[0], Picture):
            arguments[0].path.unlink()  # a copy that the training made for this process
            copies.add(arguments[0].path.parent)
    for folder in copies:
        with contextlib.suppress(OSError):  # not empty, or the training was faster
            folder.rmdir()
    replies.done()


def _with_idle(messages: Iterator[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The messages, `on_idle` after each second without one, and `_ENDED` after the last."""
    # One message waits, so that a tracker that is stuck stops the training's queue from growing here.
    waiting: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue(1)

    def read() -> None:
        for message in messages:
            waiting.put(message)
        waiting.put(_ENDED)

    threading.Thread(target=read, name="messages", daemon=True).start()
    while True:
        try:
            yield waiting.get(timeout=_IDLE_S)
        except queue.Empty:
            yield "on_idle", ()


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Move the pipes away from the standard streams: a library that prints or asks must not meet them."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def _trackers(setup: Setup, replies: Replies) -> list[_Guarded]:
    def tensorboard() -> Tracker:
        with skipped("boto3", "fsspec"):  # of clouds, where no run folder is; a third of the import's time
            from watchme.tracking.tensorboard import TensorBoardTracker

        return TensorBoardTracker(setup)

    def wandb() -> Tracker:
        from watchme.tracking.wandb import WandbTracker

        return WandbTracker(setup, replies)

    found = [_Guarded("TensorBoard", tensorboard, replies)] if setup.tensorboard else []
    return found + ([_Guarded("W&B", wandb, replies)] if setup.wandb else [])
