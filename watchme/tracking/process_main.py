"""The tracking process: reads messages from its standard input, and drives TensorBoard and W&B.

Each tracker is on its own: one that breaks is reported once and left out, and the others go on.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO

from watchme.core.interfaces import Callback
from watchme.tracking import messages
from watchme.tracking.setup import Setup

# The training goes first: on a machine that is busy with it, trackers take what it leaves.
_NICE = 10


class Replies:
    """What is told to the training process."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def send(self, kind: str, **fields: object) -> None:
        """Tell something; a training that is gone hears nothing."""
        try:
            self._pipe.write(messages.encode(kind, **fields))
            self._pipe.flush()
        except OSError:
            pass

    def warn(self, topic: str, text: str) -> None:
        """Have the training log a warning, once for each topic."""
        self.send("warn", topic=topic, text=text)

    def record(self, key: str, value: dict[str, object]) -> None:
        """Have the training add to its manifest."""
        self.send("record", key=key, value=value)


class _Guarded:
    """One tracker, made on first use, and left alone after its first error."""

    def __init__(self, name: str, make: Callable[[], Callback], replies: Replies) -> None:
        self._name = name
        self._make = make
        self._replies = replies
        self._tracker: Callback | None = None
        self._failed = False

    def call(self, act: Callable[[Callback], object]) -> None:
        if self._failed:
            return
        try:
            if self._tracker is None:
                self._tracker = self._make()
            act(self._tracker)
        except Exception as error:
            self._failed = True
            traceback.print_exc()
            text = " ".join(str(error).split()) or type(error).__name__
            self._replies.warn(self._name, f"{self._name} is off for the rest of this run: {text[:300]}")


def main() -> None:
    """Run until the training says how it ended, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    incoming, outgoing = _take_pipes()
    replies = Replies(outgoing)
    setup = messages.to_setup(messages.decode(incoming.readline()))
    sys.argv = list(setup.argv)
    trackers = _trackers(setup, replies)

    def each(act: Callable[[Callback], object]) -> None:
        for tracker in trackers:
            tracker.call(act)

    each(lambda tracker: None)
    ended = False
    pictures: Path | None = None
    for line in incoming:
        message = messages.decode(line)
        kind = message["kind"]
        if kind == "epoch":
            event = messages.to_event(message)
            each(lambda tracker, event=event: tracker.on_epoch(event))  # type: ignore[misc]
        elif kind in ("picture", "table"):
            item = messages.to_item(message)
            each(lambda tracker, item=item: tracker.on_show(item))  # type: ignore[misc]
            if kind == "picture":  # the file is a copy that was made for us
                copy = Path(message["path"])
                copy.unlink()
                pictures = copy.parent
        elif kind == "resume":
            each(lambda tracker, epoch=message["epoch"]: tracker.on_resume(epoch))  # type: ignore[misc]
        elif kind == "end":
            status, result = messages.to_end(message)
            each(lambda tracker, status=status, result=result: tracker.on_end(status, result))  # type: ignore[misc]
            ended = True
            break  # a data loader's process may hold the other end of the pipe open
    if not ended:  # the training was killed
        each(lambda tracker: tracker.on_end("killed", None))
    if pictures is not None:
        with contextlib.suppress(OSError):  # not empty, or the training was faster
            pictures.rmdir()
    replies.send("done")


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the pipes to ourselves: a library that prints or asks must not meet them."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def _trackers(setup: Setup, replies: Replies) -> list[_Guarded]:
    def tensorboard() -> Callback:
        from watchme.tracking.tensorboard import TensorBoardTracker

        return TensorBoardTracker(setup)

    def wandb() -> Callback:
        from watchme.tracking.wandb import WandbTracker

        return WandbTracker(setup, replies)

    found = [_Guarded("TensorBoard", tensorboard, replies)] if setup.tensorboard else []
    return found + ([_Guarded("W&B", wandb, replies)] if setup.wandb else [])
