"""A study in PostgreSQL: several processes share it, it may restart, and no file or output holds its password."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from sweep.conftest import states
from sweep.servers import postgresql
from sweep.test_failures import wait_until

pytestmark = pytest.mark.slow
Begin = Callable[..., "subprocess.Popen[str]"]
SEARCH = (
    *("sweeper=standin_tune", "hydra.sweeper.report=false", "hydra.sweeper.n_trials=12"),
    "hydra.sweeper.study_name=shared",
)


def assert_no_password(folder: Path, *outputs: str) -> None:
    """No file below `folder`, and nothing printed, holds the password."""
    for output in outputs:
        assert "hush" not in output
    for path in folder.rglob("*"):
        if path.is_file():
            assert "hush" not in path.read_text(errors="replace"), path


def test_three_processes_share_a_study_in_postgresql(begin: Begin, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="uv sync --extra postgresql")
    with postgresql() as database:
        command = (*SEARCH, "train.epochs=6", "model.epoch_s=0.02", f"hydra.sweeper.storage={database.url}")
        started = [
            begin(tmp_path / name, *command, f"hydra.sweeper.n_jobs={slots}")
            for name, slots in (("one", 1), ("two", 1), ("three", 2))
        ]
        ended = [process.communicate(timeout=200) for process in started]
        assert [process.returncode for process in started] == [0, 0, 0], ended
        study = optuna.load_study(study_name="shared", storage=database.url)
        trials = study.get_trials()
        assert len(trials) == 12
        assert set(states(trials)) <= {"COMPLETE", "PRUNED"}
        assert sum(len(trial.intermediate_values) for trial in trials) > 12
        again = begin(tmp_path / "one", *command)
        again.communicate(timeout=60)
        assert len(study.get_trials()) == 12
        assert_no_password(tmp_path, *(text for pair in ended for text in pair))


def test_a_server_that_restarts_ends_no_trial(begin: Begin, project: Path, tmp_path: Path) -> None:
    """One process has the password from the environment by an interpolation in yaml, the other from the URL's query."""
    pytest.importorskip("psycopg", reason="uv sync --extra postgresql")
    with postgresql() as database:
        url = database.url.replace("hush", "${oc.env:PW}")
        (project / "conf" / "sweeper" / "pg.yaml").write_text(
            f"# @package _global_\ndefaults: [standin_tune, _self_]\nhydra: {{sweeper: {{storage: '{url}'}}}}\n"
        )
        command = ("sweeper=pg", *SEARCH[1:], "train.epochs=5", "model.epoch_s=0.3", "hydra.sweeper.pruner=none")
        in_query = f"hydra.sweeper.storage='{database.url.replace(':hush', '')}?password=hush'"
        started = [
            begin(tmp_path / "one", *command, "hydra.sweeper.n_jobs=2", PW="hush"),
            begin(tmp_path / "two", *command, in_query),
        ]
        for name, process in zip(("one", "two"), started, strict=True):
            wait_until(lambda name=name: any((tmp_path / name).glob("*/metrics.jsonl")), process)  # type: ignore[misc]
        for _ in range(2):
            database.stop()
            database.start()
        ended = [process.communicate(timeout=200) for process in started]
        assert [process.returncode for process in started] == [0, 0], ended
        trials = optuna.load_study(study_name="shared", storage=database.url).get_trials()
        found = states(trials)
        assert found.pop("LOST", 0) <= 3, "at most those that were drawn in that moment"
        assert found == {"COMPLETE": 12}
        complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
        assert all(len(trial.intermediate_values) == 5 for trial in complete), "what could not be reported was later"
        assert re.search(r"12 of 12 trials", ended[0][0])
        assert_no_password(tmp_path, *(text for pair in ended for text in pair))
