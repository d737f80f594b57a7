"""One comparison for all tests: W&B, TensorBoard and the report against metrics.jsonl."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tracking.wandb_file import WandbFile

_NOT_METRICS = {"epoch", "time", "is_best"}
_SINGLE = 1e-6  # event files hold single precision


def assert_equal_everywhere(folder: Path) -> int:
    """Compare what a run folder's trackers and report hold with its metrics.jsonl and summary.json.

    Returns:
        How many epochs were compared.
    """
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = sorted({name for line in lines for name in line} - _NOT_METRICS)
    expected = {name: {at["epoch"]: at[name] for at in lines if at.get(name) is not None} for name in names}
    expected = {name: points for name, points in expected.items() if points}
    assert expected
    for place, found in (("W&B", _wandb(folder)), ("TensorBoard", _tensorboard(folder)), ("report", _report(folder))):
        for name, points in expected.items():
            if place == "report" and len(points) < 2:
                continue  # no curve
            assert found.get(name) == pytest.approx(points, rel=1e-5 if place == "report" else _SINGLE), (place, name)
    summary = json.loads((folder / "summary.json").read_text())
    saved = WandbFile(folder).summary
    finals = {name: value for name, value in summary.items() if "/" in name and value is not None}
    for name, value in finals.items():
        there = saved.get(name) if name.startswith("test/") else saved["best"].get(name)
        assert there == pytest.approx(value, rel=_SINGLE), name
    return len(lines)


def _wandb(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for row in WandbFile(folder).history:
        if "epoch" not in row:
            continue  # a point within an epoch
        for name, value in row.items():
            if isinstance(value, (int, float)):
                found.setdefault(name, {})[row["epoch"]] = value
    return found


def _tensorboard(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: {at.step: at.value for at in events.Scalars(name)} for name in events.Tags()["scalars"]}


def _report(folder: Path) -> dict[str, dict[int, float]]:
    page = (folder / "report.html").read_text()
    found: dict[str, dict[int, float]] = {}
    charts = [chart for data in re.findall(r"data-charts='([^']*)'", page) for chart in json.loads(data)]
    for chart in charts:
        for curve in chart["series"]:
            name = chart["title"] if "/" in chart["title"] else f"{curve['label']}/{chart['title']}"
            found[name] = dict(curve["points"])
    return found
