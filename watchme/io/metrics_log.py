"""The lines of metrics.jsonl, one an epoch: written, read, and their metrics told from the timings."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchme.io.files import json_value

# What a line holds beside metrics.
NOT_METRICS = frozenset({"epoch", "time", "is_best"})
# How the names of an epoch's timings begin.
TIMINGS = ("perf/", "time/")


def metrics_line(values: Mapping[str, Any]) -> str:
    """A line, with null for what is undefined (NaN, infinities), since JSON has no NaN."""
    return json.dumps(json_value(values)) + "\n"


def metrics_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a line that was read, without its timings."""
    return {name: value for name, value in line.items() if "/" in name and not name.startswith(TIMINGS)}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl, null read as NaN; of an epoch that stands twice the later one.

    Lines that are no record of an epoch are left out: a last line that a killed process cut off, or damaged bytes.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return []
    found: dict[int, dict[str, Any]] = {}
    for text in content.splitlines():
        try:
            line = json.loads(text)
            epoch = int(line["epoch"])
        except (ValueError, KeyError, TypeError):
            continue
        found[epoch] = {name: math.nan if value is None else value for name, value in line.items()}
    return [found[epoch] for epoch in sorted(found)]
