"""ultralytics' metrics under canonical names, and epoch events from the ranks of a multi-GPU run.

Training on one device calls the callbacks directly. On several, ultralytics starts its own processes; rank 0 sends
each event through a local socket and waits for the answer, which may be a `Stop`.
"""

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from watchme.core.errors import WatchmeError
from watchme.core.interfaces import EpochEvent, Stop

Emit = Callable[[EpochEvent], Stop | None]
_ADDRESS, _KEY = "WATCHME_EVENTS_ADDRESS", "WATCHME_EVENTS_KEY"
_NAMES = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95",
}


def canonical_metrics(metrics: Mapping[str, Any], split: str) -> dict[str, float]:
    """ultralytics' metrics under canonical names, with F1 = 2PR / (P + R), NaN where both are 0.

    Args:
        metrics: e.g. {"metrics/mAP50(B)": 0.5, "val/box_loss": 1.2}.
        split: train, val or test, the prefix of the names.
    """
    named = {f"{split}/{name}": float(metrics[theirs]) for theirs, name in _NAMES.items() if theirs in metrics}
    if f"{split}/precision" in named and f"{split}/recall" in named:
        named[f"{split}/f1"] = f1(named[f"{split}/precision"], named[f"{split}/recall"])
    named |= {key: float(value) for key, value in metrics.items() if key.startswith("val/") and key.endswith("_loss")}
    return named


def f1(precision: float, recall: float) -> float:
    """Harmonic mean of precision and recall; NaN where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else math.nan


@contextlib.contextmanager
def serve(emit: Emit) -> Iterator[None]:
    """Answer the events of rank 0, which is started within the block.

    Raises:
        WatchmeError: The error of the rank, instead of the launcher's exit status.
    """
    key = os.urandom(16)
    failures: list[BaseException] = []
    connected = threading.Event()
    with Listener(authkey=key) as listener:
        os.environ[_ADDRESS], os.environ[_KEY] = str(listener.address), key.hex()

        def answer() -> None:
            try:
                with listener.accept() as connection:
                    connected.set()
                    while True:
                        message = connection.recv()
                        if isinstance(message, WatchmeError):
                            failures.append(message)
                            return
                        connection.send(emit(message))
            except (EOFError, OSError):
                pass
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=answer, name="yolo-events", daemon=True)
        thread.start()
        try:
            yield
        except Exception:
            # The launcher only knows that a rank failed; the rank has sent the reason.
            if connected.is_set():
                thread.join(timeout=10)
            if not failures:
                raise
        finally:
            del os.environ[_ADDRESS], os.environ[_KEY]
            if not connected.is_set():
                # Unblocks an accept() to which no rank has connected.
                with contextlib.suppress(OSError, EOFError):
                    Client(listener.address, authkey=key).close()
            thread.join(timeout=10)
    if failures:
        raise failures[0]


class ParentConnection:
    """Connection of rank 0 to the process that started it: call it with an event to get the callbacks' answer."""

    def __init__(self, address: str, key: bytes) -> None:
        self._connection: Connection = Client(address, authkey=key)

    def __call__(self, event: EpochEvent) -> Stop | None:
        """Send an event and wait for the answer."""
        self._connection.send(event)
        answer: Stop | None = self._connection.recv()
        return answer

    def fail(self, error: WatchmeError) -> None:
        """Send an error, to be raised in the parent process."""
        self._connection.send(error)


def connect_to_parent() -> ParentConnection | None:
    """Connect to the process that started this rank; None where `serve` did not start it."""
    address = os.environ.get(_ADDRESS)
    return None if address is None else ParentConnection(address, bytes.fromhex(os.environ[_KEY]))
