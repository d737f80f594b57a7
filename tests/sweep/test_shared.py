"""Several processes, one study: the budget is met exactly, on every storage."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.conftest import states, trials_of
from watchme.core.errors import ConfigError
from watchme.sweep import storage
from watchme.sweep.database_password import PASSWORD_VARIABLE, take_password

Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_two_processes_share_one_budget(kind: str, begin: Begin, tmp_path: Path) -> None:
    """Each in a folder of its own, as on two machines; the study is one."""
    where = tmp_path / ("study.db" if kind == "sqlite" else "study.journal")
    command = (
        *("sweeper=yolo_tune", "train.epochs=3", "model.epoch_s=0.05", "hydra.sweeper.report=false"),
        *("hydra.sweeper.n_trials=10", "hydra.sweeper.study_name=shared", f"hydra.sweeper.storage={where}"),
    )
    started = [begin(tmp_path / name, *command) for name in ("one", "two")]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    trials = trials_of(tmp_path / "one")
    assert len(trials) == 10
    assert set(states(trials)) <= {"COMPLETE", "PRUNED"}
    shares = [len([path for path in (tmp_path / name).iterdir() if path.name.isdigit()]) for name in ("one", "two")]
    assert sum(shares) == 10
    assert min(shares) >= 1, "both took part"
    for stdout, _ in ended:
        assert re.search(r"10 of 10 trials", stdout)


def test_what_a_storage_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert storage.resolve(None, tmp_path) == f"sqlite:///{tmp_path}/study.db"
    assert storage.resolve("a.db", tmp_path) == f"sqlite:///{tmp_path}/a.db"
    assert storage.resolve("sqlite:///a.db", tmp_path) == f"sqlite:///{tmp_path}/a.db"
    assert storage.resolve("net/a.journal", tmp_path) == f"journal:{tmp_path}/net/a.journal"
    assert storage.resolve("journal:///net/a.log", tmp_path) == "journal:/net/a.log"
    for wrong in ("redis://here", "sqlite://", "study", "sqlite:///:memory:"):
        with pytest.raises(ConfigError, match=r"hydra\.sweeper\.storage"):
            storage.resolve(wrong, tmp_path)


def test_a_password_goes_into_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "")
    url = storage.resolve("postgresql://me:secret@host/db", tmp_path)
    assert url == "postgresql+psycopg://me@host/db"
    assert "me:secret@host" in storage._with_password(url)
    told = take_password("++hydra.sweeper.storage='mysql+pymysql://you:p%40ss@host/db'")
    assert told == "++hydra.sweeper.storage='mysql+pymysql://you@host/db'"
    assert "you:p%40ss@host" in storage._with_password("mysql+pymysql://you@host/db")


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    import threading

    inside: list[int] = []
    most: list[int] = []
    for url in (f"sqlite:///{tmp_path}/s.db", f"journal:{tmp_path}/s.journal"):
        # Two locks, as of two processes, and two threads with each.
        locks = [storage.turn(url, "s"), storage.turn(url, "s")] * 2

        def work(lock: object) -> None:
            for _ in range(5):
                with lock():  # type: ignore[operator]
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

        threads = [threading.Thread(target=work, args=(lock,)) for lock in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(most) == 40
    assert max(most) == 1


def test_a_database_that_is_not_there_is_said_clearly(begin: Begin, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="uv sync --extra postgresql")
    process = begin(
        tmp_path / "s", "optimizer.lr=0.01,0.02", "hydra.sweeper.storage=postgresql://nobody:hush@127.0.0.1:1/none"
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "does not answer" in stderr
    assert "Traceback" not in stderr
    assert "hush" not in stderr
