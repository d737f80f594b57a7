"""The proof of tests/gpu/proof.py on a CPU, at its smallest, so that it still works where there is a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu.proof import NEED_GPU, STEPS

PROOF = Path(__file__).resolve().parent / "proof.py"
# Those that train by train.py, several times each, take minutes.
QUICK = ("environment", "compile", "ranking", "loader")


@pytest.mark.parametrize(
    "steps", [QUICK, pytest.param(tuple(each for each in STEPS if each not in QUICK), marks=pytest.mark.slow)]
)
def test_every_step_runs_or_says_no_gpu(steps: tuple[str, ...], tmp_path: Path) -> None:
    """Without a GPU in sight, whatever machine this is."""
    out = tmp_path / "out"
    chosen = ["--steps", ",".join(steps), "--out", str(out), "--work", str(tmp_path / "work")]
    done = subprocess.run(
        [sys.executable, str(PROOF), "--tiny", *chosen],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    results = json.loads((out / "result.json").read_text())
    statuses = {name: result["status"] for name, result in results.items()}
    assert statuses == {name: "no GPU" if name in NEED_GPU else "done" for name in STEPS if name in steps}, done.stdout
    failed = [check for result in results.values() for check in result["checks"] if not check["ok"]]
    assert not failed
    assert done.returncode == 0, done.stdout
    assert "watchme on CPU" in (out / "summary.txt").read_text() or "environment" not in steps
