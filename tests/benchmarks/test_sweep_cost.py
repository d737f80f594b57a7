"""What the sweep itself costs: at most 0.3 s a trial in-process, and no memory that grows with the trials."""

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.conftest import NO_TORCH, project, trials_of  # noqa: F401  (a fixture)

_OWN_S = 0.3
_TRIALS = 200
# Writes the resident memory after each trial, and how long `run()`, which is the trial's own work, took.
_SCRIPT = f"""{NO_TORCH}
import json, pathlib, time
import watchme.run.runner
inner, out = watchme.run.runner.run, pathlib.Path(sys.argv.pop(1)).open('w')
def timed(*args, **kwargs):
    began = time.perf_counter()
    try:
        return inner(*args, **kwargs)
    finally:
        pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
        now = time.perf_counter()
        print(json.dumps([began, now, pages * 4096 / 2**20]), file=out, flush=True)
watchme.run.runner.run = timed
runpy.run_path('train.py', run_name='__main__')
"""


@pytest.mark.benchmark
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_own_time_and_memory_over_200_trials(sampler: str, project: Path, tmp_path: Path) -> None:  # noqa: F811
    measured = tmp_path / "measured"
    subprocess.run(
        [
            *(sys.executable, "-c", _SCRIPT, str(measured), "-m", "model=standin", f"hydra.sweep.dir={tmp_path / 's'}"),
            *(
                "sweeper=standin_tune",
                "train.epochs=1",
                f"hydra.sweeper.n_trials={_TRIALS}",
                "hydra.sweeper.report=false",
            ),
            *(f"hydra.sweeper.sampler={sampler}", "hydra.sweeper.seed=0"),
        ],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        check=True,
        capture_output=True,
    )
    rows = [json.loads(line) for line in measured.read_text().splitlines()]
    assert len(rows) == len(trials_of(tmp_path / "s")) == _TRIALS
    # From the end of one trial's work to the beginning of the next's: tell, ask, compose, launch.
    own = [after[0] - before[1] for before, after in itertools.pairwise(rows)]
    quarter = _TRIALS // 4
    early, late = (statistics.median(row[2] for row in part) for part in (rows[quarter : 2 * quarter], rows[-quarter:]))
    trial = statistics.median(row[1] - row[0] for row in rows)
    print(
        f"\n{sampler:<7} own time a trial: median {statistics.median(own):.3f} s, "
        f"95% {sorted(own)[int(0.95 * len(own))]:.3f} s (the run itself {trial:.3f} s); "
        f"memory {early:.1f} MiB (trials {quarter}-{2 * quarter}) -> {late:.1f} MiB (last {quarter})"
    )
    assert statistics.median(own) <= _OWN_S
    assert late - early <= 12.0


@pytest.mark.benchmark
def test_start_up(project: Path, tmp_path: Path) -> None:  # noqa: F811
    """The sweeper is registered at every start and must not be felt: nothing of Optuna is imported."""
    script = (
        "import sys; sys.path.insert(0, '.'); from watchme.cli.command_line import prepare; prepare([]); "
        "heavy = {'optuna', 'sqlalchemy', 'torch', 'matplotlib', 'scipy'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    measured: Callable[[], subprocess.CompletedProcess[str]] = lambda: subprocess.run(  # noqa: E731
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=True
    )
    done = measured()
    assert done.stdout.strip() == "[]"
    print(
        f"\nmodules: none of optuna, sqlalchemy, torch; {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.2f} s"
    )
