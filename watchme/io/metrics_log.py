"""Reader of metrics.jsonl, which has one line an epoch."""

import json
import math
from pathlib import Path
from typing import Any

# What a line holds beside metrics.
NOT_METRICS = frozenset({"epoch", "time", "is_best"})


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
