"""What the training process and its tracking process tell each other: one JSON object a line.

JSON rather than pickle: nothing of an engine or of torch is imported on the other side, and a line can be read.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from watchme.core.interfaces import EpochEvent, Picture, Result, Table
from watchme.tracking.setup import Setup, WandbSetup


def encode(kind: str, **fields: Any) -> bytes:
    """One line of the pipe. NaN stays NaN: both ends are Python."""
    return (json.dumps({"kind": kind, **fields}, default=_plain) + "\n").encode()


def decode(line: bytes | str) -> dict[str, Any]:
    """The message of a line."""
    message: dict[str, Any] = json.loads(line)
    return message


def from_event(event: EpochEvent) -> bytes:
    """Encode an epoch event."""
    return encode(
        "epoch",
        epoch=event.epoch,
        epochs=event.epochs,
        metrics=dict(event.metrics),
        timings=dict(event.timings),
        is_best=event.is_best,
    )


def to_event(message: Mapping[str, Any]) -> EpochEvent:
    """Decode an epoch event."""
    names = ("epoch", "epochs", "metrics", "timings", "is_best")
    return EpochEvent(**{name: message[name] for name in names})


def from_item(item: Picture | Table, path: Path | None = None) -> bytes:
    """Encode a picture, whose file is now `path`, or a table."""
    if isinstance(item, Table):
        return encode("table", name=item.name, columns=item.columns, rows=item.rows)
    return encode(
        "picture",
        name=item.name,
        path=path or item.path,
        caption=item.caption,
        boxes=item.boxes,
        epoch=item.epoch,
    )


def to_item(message: Mapping[str, Any]) -> Picture | Table:
    """Decode a picture or a table."""
    if message["kind"] == "table":
        return Table(message["name"], tuple(message["columns"]), tuple(tuple(row) for row in message["rows"]))
    boxes = tuple((box[0], box[1], box[2], box[3], box[4], box[5]) for box in message["boxes"])
    return Picture(message["name"], Path(message["path"]), message["caption"], boxes, message["epoch"])


def from_end(status: str, result: Result | None) -> bytes:
    """Encode the end of a run. `Result.details` stays in summary.json."""
    if result is None:
        return encode("end", status=status, result=None)
    fields = {
        "metrics": dict(result.metrics),
        "objective": result.objective,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "weights": dict(result.weights),
    }
    return encode("end", status=status, result=fields)


def to_end(message: Mapping[str, Any]) -> tuple[str, Result | None]:
    """Decode the end of a run."""
    fields = message["result"]
    if fields is None:
        return message["status"], None
    weights = {name: Path(path) for name, path in fields.pop("weights").items()}
    return message["status"], Result(**fields, weights=weights)


def from_setup(setup: Setup) -> bytes:
    """Encode what the tracking process gets first."""
    return encode("setup", **asdict(setup))


def to_setup(message: Mapping[str, Any]) -> Setup:
    """Decode what the tracking process gets first."""
    fields = {name: value for name, value in message.items() if name != "kind"}
    wandb = fields.pop("wandb")
    return Setup(**fields, wandb=WandbSetup(**wandb) if wandb else None)


def _plain(value: Any) -> Any:
    """A NumPy or torch number as Python's, a path as text."""
    return value.item() if hasattr(value, "item") else str(value)
