"""Reads a `.wandb` file: the log format of LevelDB, with records in W&B's own protocol buffers.

W&B 0.31 reads it in its Go program only; up to 0.19 it had a Python reader, which this follows.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """Records of a file, each a wandb_internal_pb2.Record."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", path
    at, parts = 7, b""
    while at < len(data):
        left = _BLOCK - at % _BLOCK
        if left < 7:  # the rest of a block that is too short for a header
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        assert kind in (_FULL, _FIRST, _MIDDLE, _LAST), (path, at, kind)
        part = data[at + 7 : at + 7 + length]
        parts = part if kind in (_FULL, _FIRST) else parts + part
        at += 7 + length
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


class WandbFile:
    """What an offline run's file holds.

    Args:
        folder: The run folder; the latest or the only offline run below it is read.
        index: Which, in order of their start.
    """

    def __init__(self, folder: Path, index: int = -1) -> None:
        paths = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
        self.path = paths[index]
        self.run: Any = None
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.artifacts: list[Any] = []
        self.tags: list[str] = []
        self.exit_code: int | None = None
        self.stats = 0
        self.output = ""
        self.alerts: list[Any] = []
        for record in records(self.path):
            self._take(record)

    def _take(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            if self.run is None:
                self.run = record.run
            self.tags = list(record.run.tags) or self.tags
            self._update(self.config, record.run.config.update)
        elif kind == "config":
            self._update(self.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            self._update(row, record.history.item)
            self.history.append(row)
        elif kind == "summary":
            self._update(self.summary, record.summary.update)
        elif kind == "metric":
            self.metrics[record.metric.name] = record.metric
        elif kind == "artifact":
            self.artifacts.append(record.artifact)
        elif kind == "exit":
            self.exit_code = record.exit.exit_code
        elif kind == "output_raw":
            self.output += record.output_raw.line
        elif kind == "alert":
            self.alerts.append(record.alert)
        elif kind == "stats":
            self.stats += 1

    @staticmethod
    def _update(target: dict[str, Any], items: Any) -> None:
        for item in items:
            keys = list(item.nested_key) or [item.key]
            place = target
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = json.loads(item.value_json)
