"""Validation answers in at most 1.5x the processor time of an empty Hydra application's `--cfg job`."""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
EMPTY = "import hydra\n@hydra.main(config_path=None, config_name=None)\ndef main(cfg): pass\nmain()\n"


def processor_seconds(*command: str) -> float:
    """User and system time of one child process, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, env=os.environ, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.benchmark
def test_time_to_a_refusal(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text(EMPTY)
    rows: dict[str, list[float]] = {"empty --cfg job": [], "--cfg job": [], "refusal": []}
    for _ in range(9):
        rows["empty --cfg job"].append(processor_seconds(str(empty), "--cfg", "job"))
        rows["--cfg job"].append(processor_seconds("train.py", "--cfg", "job"))
        rows["refusal"].append(processor_seconds("train.py", "train.epoks=3", "+model.typo=1"))
    median = {name: statistics.median(values) for name, values in rows.items()}
    print()
    for name, value in median.items():
        spread = f"{min(rows[name]):.2f}..{max(rows[name]):.2f} s"
        print(f"{name:<18} {value:.2f} s ({spread})  {value / median['empty --cfg job']:.2f}x")
    assert median["--cfg job"] <= 1.5 * median["empty --cfg job"]
    assert median["refusal"] <= 1.5 * median["empty --cfg job"]
