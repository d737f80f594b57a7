"""What passes between a training and its tracking process: pickled calls of callbacks one way, replies the other."""

import contextlib
import pickle
from collections.abc import Iterator
from typing import IO, Any


def send(pipe: IO[bytes], message: object) -> None:
    """Write one message.

    Raises:
        OSError: If the other process is gone.
    """
    pipe.write(message if isinstance(message, bytes) else pickle.dumps(message))
    pipe.flush()


def receive(pipe: IO[bytes]) -> Iterator[Any]:
    """Messages until the other process closes the pipe, or is killed amid one."""
    while True:
        try:
            message = pickle.load(pipe)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            return
        yield message


class Replies:
    """What trackers report to the training process, as (kind, arguments). A training that is gone gets nothing."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def warn(self, topic: str, text: str) -> None:
        """Have the training log a warning, once for each topic."""
        self._send("warn", topic, text)

    def record(self, key: str, value: dict[str, object]) -> None:
        """Have the training add to its manifest."""
        self._send("record", key, value)

    def stop(self, reason: str) -> None:
        """Have the training stop after its epoch."""
        self._send("stop", reason)

    def started(self) -> None:
        """Say that all trackers are there, and have reported what they know of themselves."""
        self._send("started")

    def done(self) -> None:
        """Say that all trackers have finished."""
        self._send("done")

    def _send(self, kind: str, *arguments: object) -> None:
        with contextlib.suppress(OSError):
            send(self._pipe, (kind, arguments))
