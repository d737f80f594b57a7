"""Whole tiny runs in this process, with their folders: what a test of trackers, reports or manifests looks at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from osnet import tiny

TINY = (*tiny.TINY, "train.device=cpu", "tracker=none")


class Done(NamedTuple):
    """What a run left."""

    folder: Path
    run: dict[str, Any]
    summary: dict[str, Any]
    lines: list[dict[str, Any]]


Train = Callable[..., Done]


def read(folder: Path) -> Done:
    """What stands in a run folder."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("run", "summary"))
    return Done(folder, told, summary, lines)
