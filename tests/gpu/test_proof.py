"""The proof of tests/gpu/proof.py on a CPU, at its smallest, so that it still works where there is a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu.proof import NEED_GPU, STEPS

pytestmark = pytest.mark.slow
PROOF = Path(__file__).resolve().parent / "proof.py"


def test_every_step_runs_or_says_no_gpu(tmp_path: Path) -> None:
    """Without a GPU in sight, whatever machine this is."""
    done = subprocess.run(
        [sys.executable, str(PROOF), "--tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    results = json.loads((tmp_path / "out" / "result.json").read_text())
    statuses = {name: result["status"] for name, result in results.items()}
    assert statuses == {name: "no GPU" if name in NEED_GPU else "done" for name in STEPS}, done.stdout
    failed = [check for result in results.values() for check in result["checks"] if not check["ok"]]
    assert not failed
    assert done.returncode == 0, done.stdout
    assert "torchreid" in (tmp_path / "out" / "summary.txt").read_text()
