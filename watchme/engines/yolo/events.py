"""ultralytics' numbers under canonical names, and their way from the process that trains to the observers.

Training on one device calls the observers directly. With several, ultralytics starts its own processes; the one of
rank 0 then sends each event through a socket of this machine and waits for the answer, which may be a `Stop`.
"""

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from watchme.contract import EpochEvent, Stop

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
        split: val, test or train.
    """
    named = {f"{split}/{name}": float(metrics[theirs]) for theirs, name in _NAMES.items() if theirs in metrics}
    if f"{split}/precision" in named and f"{split}/recall" in named:
        precision, recall = named[f"{split}/precision"], named[f"{split}/recall"]
        named[f"{split}/f1"] = 2 * precision * recall / (precision + recall) if precision + recall else math.nan
    named |= {key: float(value) for key, value in metrics.items() if key.startswith("val/") and key.endswith("_loss")}
    return named


@contextlib.contextmanager
def serve(emit: Emit) -> Iterator[None]:
    """Answer the events of a training process that is started below, until the block ends."""
    key = os.urandom(16)
    with Listener(authkey=key) as listener:
        os.environ[_ADDRESS], os.environ[_KEY] = str(listener.address), key.hex()
        failure: list[BaseException] = []

        def answer() -> None:
            try:
                with listener.accept() as connection:
                    while True:
                        connection.send(emit(connection.recv()))
            except (EOFError, OSError):
                pass
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=answer, name="yolo-events", daemon=True)
        thread.start()
        try:
            yield
        finally:
            del os.environ[_ADDRESS], os.environ[_KEY]
            with contextlib.suppress(OSError, EOFError):
                # Unblocks an accept() that no process ever came to.
                Client(listener.address, authkey=key).close()
            thread.join(timeout=10)
    if failure:
        raise failure[0]


def emitter_to_parent() -> Emit | None:
    """The way to the observers of the process that started this one; None where there is none."""
    address = os.environ.get(_ADDRESS)
    if address is None:
        return None
    connection: Connection = Client(address, authkey=bytes.fromhex(os.environ[_KEY]))

    def emit(event: EpochEvent) -> Stop | None:
        connection.send(event)
        answer: Stop | None = connection.recv()
        return answer

    return emit
