"""Hooks for conditional parameters: part of a study's identity, and what they raise fails a trial, not the sweep."""

from collections.abc import Callable
from pathlib import Path

from sweep.conftest import Swept

Sweep = Callable[..., Swept]
SEARCH = (
    *("optimizer.lr=interval(0.01,0.02)", "hydra.sweeper.n_trials=3", "train.epochs=1"),
    "hydra.sweeper.report=false",
)
HOOK = "hydra.sweeper.custom_search_space=sweep_hooks"


def test_another_hook_is_another_study(sweep: Sweep, tmp_path: Path) -> None:
    first = sweep(tmp_path / "s", *SEARCH, f"{HOOK}.seeds")
    assert first.code == 0, first.stderr
    broken = first.trials[1]
    assert "study created" not in first.stderr, "Optuna says nothing of its own"
    assert first.states == {"COMPLETE": 2, "FAIL": 1}
    assert "KeyError: 'only here'" in broken.user_attrs["reason"]
    assert "in seeds" in (tmp_path / "s" / "1" / "traceback.txt").read_text()
    other = sweep(tmp_path / "s", *SEARCH, f"{HOOK}.momentum")
    assert other.code == 2
    assert "hydra.sweep.dir" in other.stderr, "its default name differs"
    name = next(line for line in first.stdout.splitlines() if line.startswith("Study")).split()[1]
    named = sweep(tmp_path / "s", *SEARCH, f"{HOOK}.momentum", f"hydra.sweeper.study_name={name}")
    assert named.code == 2
    assert "custom_search_space: stored sweep_hooks.seeds, now sweep_hooks.momentum" in named.stderr
    assert len(first.trials) == 3
    assert "RUNNING" not in first.states
