"""The manifest of a run's folder."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from watchme.core.interfaces import Result
from watchme.run import run_dir
from watchme.run.run_dir import RunFolder


def test_duration_and_start_count_from_the_command_not_from_the_first_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    times = iter(["at the start", "before", "at the end", "later"])
    monkeypatch.setattr(run_dir.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(run_dir, "_now", lambda: next(times))
    record = RunFolder(tmp_path / "run")
    clock[0] = 142.5
    record.open(OmegaConf.create({"train": {"seed": 0}}), [])  # an evaluation opens its folder when it has results
    record.close("finished", Result({}, 0.5))
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["timings"]["total_s"] == 42.5
    assert manifest["started"] == "at the start"
