"""A study in PostgreSQL, shared by several processes, with a password that no file tells."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from sweep.conftest import states
from sweep.servers import postgresql

pytestmark = pytest.mark.slow
Begin = Callable[..., "subprocess.Popen[str]"]


def test_three_processes_share_a_study_in_postgresql(begin: Begin, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="uv sync --extra postgresql")
    with postgresql() as url:
        command = (
            *("sweeper=osnet_tune", "train.epochs=6", "model.epoch_s=0.02", "hydra.sweeper.report=false"),
            *("hydra.sweeper.n_trials=12", "hydra.sweeper.study_name=shared", f"hydra.sweeper.storage={url}"),
        )
        started = [
            begin(tmp_path / name, *command, f"hydra.sweeper.n_jobs={slots}")
            for name, slots in (("one", 1), ("two", 1), ("three", 2))
        ]
        ended = [process.communicate(timeout=200) for process in started]
        assert [process.returncode for process in started] == [0, 0, 0], ended
        study = optuna.load_study(study_name="shared", storage=url)
        trials = study.get_trials()
        assert len(trials) == 12
        assert set(states(trials)) <= {"COMPLETE", "PRUNED"}
        assert sum(len(trial.intermediate_values) for trial in trials) > 12
        again = begin(tmp_path / "one", *command)
        again.communicate(timeout=60)
        assert len(study.get_trials()) == 12
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert "hush" not in path.read_text(errors="replace"), path
