"""Pruning on the demo world: ASHA against the whole random search, over the same draws.

`uv run pytest tests/benchmarks/test_asha.py -m benchmark -s`; about 45 minutes on 2 cores.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from sweep.conftest import PROJECT, trials_of

_SEEDS = (0, 1, 2)
_TRIALS, _EPOCHS = 12, 18
_COMMAND = (
    *("-m", "sweeper=osnet_tune", "model=osnet_x0_25", f"train.epochs={_EPOCHS}", "train.eval_every=1"),
    *("dataset.val_identities=0.3", "evaluation.visrank=0"),
    *(f"hydra.sweeper.n_trials={_TRIALS}", "hydra.sweeper.sampler=random", "hydra.sweeper.report=false"),
)


def _search(folder: Path, *options: str) -> tuple[float, int]:
    """The best validation mAP, and the epochs of all trials."""
    command = [sys.executable, "train.py", *_COMMAND, f"hydra.sweep.dir={folder}", *options]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    trials = trials_of(folder)
    assert len(trials) == _TRIALS
    values = [value for trial in trials for value in trial.intermediate_values.values()]
    return max(values), len(values)


@pytest.mark.benchmark
def test_asha_finds_as_much_in_half_the_epochs(tmp_path: Path) -> None:
    rows = []
    for seed in _SEEDS:
        whole = _search(tmp_path / f"random{seed}", f"hydra.sweeper.seed={seed}", "hydra.sweeper.pruner=none")
        asha = _search(tmp_path / f"asha{seed}", f"hydra.sweeper.seed={seed}", "hydra.sweeper.pruner=asha")
        rows.append((asha[0] / whole[0], asha[1] / whole[1]))
        print(
            f"\nseed {seed}: random {whole[0]:.4f} in {whole[1]} epochs, asha {asha[0]:.4f} in {asha[1]}: "
            f"{rows[-1][0]:.3f} of the best, {rows[-1][1]:.2f} of the epochs"
        )
    best, epochs = (sum(row[place] for row in rows) / len(rows) for place in (0, 1))
    print(f"mean: {best:.3f} of the best, {epochs:.2f} of the epochs")
    assert best >= 0.98
    assert epochs <= 0.5
