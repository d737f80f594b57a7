"""Several processes, one study: the budget is met exactly, on every storage."""

import functools
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sweep.conftest import PROJECT, states, trials_of
from watchme.core.errors import ConfigError
from watchme.sweep import storage, sweep_dir
from watchme.sweep.database_password import PASSWORD_VARIABLE, take_password

Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_two_processes_share_one_budget(kind: str, begin: Begin, tmp_path: Path) -> None:
    """Each in a folder of its own, as on two machines; the study is one."""
    where = tmp_path / ("study.db" if kind == "sqlite" else "study.journal")
    command = (
        *("sweeper=standin_tune", "train.epochs=3", "model.epoch_s=0.05", "hydra.sweeper.report=false"),
        *("hydra.sweeper.n_trials=10", "hydra.sweeper.study_name=shared", f"hydra.sweeper.storage={where}"),
        "model.waits_for=1",  # whichever process has trial 0, the other one has begun before it goes on
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


@pytest.mark.parametrize("folder", ["what?", "a%20b"])
def test_a_path_that_a_url_cannot_hold_is_refused(folder: str, tmp_path: Path) -> None:
    """SQLAlchemy would make `what` of one and `a b` of the other, where nobody finds the study."""
    for text in (None, str(tmp_path / folder / "study.db")):
        with pytest.raises(ConfigError, match=r"hydra\.sweeper\.storage(?s:.*)rename(?s:.)+folder"):
            storage.resolve(text, tmp_path / folder)
    assert storage.resolve("sqlite:///" + str(tmp_path / "a%20b.db"), tmp_path) == f"sqlite:///{tmp_path}/a b.db"


def test_a_password_goes_into_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "")
    url = storage.resolve("postgresql://me:secret@host/db", tmp_path)
    assert url == "postgresql+psycopg://me@host/db"
    assert "me:secret@host" in storage._with_password(url)
    override = take_password("++hydra.sweeper.storage='mysql+pymysql://you:p%40ss@host/db'")
    assert override == "++hydra.sweeper.storage='mysql+pymysql://you@host/db'"
    assert "you:p%40ss@host" in storage._with_password("mysql+pymysql://you@host/db")
    for query, rest in (
        ("?password=a%26b", ""),
        ("?sslmode=require&password=a%26b", "?sslmode=require"),
        ("?passwd=a%26b&charset=utf8", "?charset=utf8"),
    ):
        assert storage.resolve(f"mysql://me@host/db{query}", tmp_path) == f"mysql+pymysql://me@host/db{rest}"
        assert os.environ[PASSWORD_VARIABLE] == "a&b"
    with pytest.raises(ConfigError) as refused:
        storage.resolve("redis://me:hush@host", tmp_path)
    assert "hush" not in str(refused.value)
    later = "hydra.sweeper.storage=postgresql://me:${oc.env:PW}@host/db"
    assert take_password(later) == later, "Hydra resolves it"


def test_a_password_in_yaml_is_not_in_the_config_of_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PW", "hush")
    with initialize_config_dir(str(PROJECT / "conf")):
        config = compose(
            "config",
            ["++hydra.sweeper.storage=mysql://me:${oc.env:PW}@host/db", f"hydra.sweep.dir={tmp_path}"],
            return_hydra_config=True,
        )
        sweep_dir.prepare(config, tmp_path)
        job = GlobalHydra.instance().config_loader().load_sweep_config(config, ["++trial={number:1}", "train.seed=1"])
    assert job.hydra.sweeper.storage == "mysql://me@host/db"
    assert os.environ[PASSWORD_VARIABLE] == "hush"
    assert "trial" not in job.hydra.job.override_dirname


def test_a_journal_whose_last_line_is_cut_goes_on(tmp_path: Path) -> None:
    url = f"journal:{tmp_path}/s.journal"
    study = optuna.create_study(study_name="s", storage=storage.open_storage(url))
    study.enqueue_trial({"x": 1.0})
    whole = (tmp_path / "s.journal").read_bytes()
    for cut in (b'{"op_code": 4, "worker_id": "a' + b"x" * 5000, b"{"):
        storage.open_storage.cache_clear()
        (tmp_path / "s.journal").write_bytes(whole + cut)
        study = optuna.load_study(study_name="s", storage=storage.open_storage(url))
        study.enqueue_trial({"x": 2.0})
        storage.open_storage.cache_clear()
        again = optuna.load_study(study_name="s", storage=storage.open_storage(url))
        assert [trial.system_attrs["fixed_params"]["x"] for trial in again.trials] == [1.0, 2.0]


def test_the_lock_of_a_journals_dead_holder_is_freed_and_that_of_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Optuna's grace of 30 s cut to 2 s, and a holder that needs 3 s."""
    monkeypatch.setattr(storage, "_RENEW_S", 0.2)
    monkeypatch.setattr(storage, "JournalFileOpenLock", functools.partial(storage.JournalFileOpenLock, grace_period=3))
    lock = tmp_path / "s.journal.turn.lock"
    lock.touch()  # of a process that was killed
    began = time.monotonic()
    turn = storage.turn(f"journal:{tmp_path}/s.journal", "s")
    held, order = threading.Event(), []

    def wait() -> None:
        held.wait()
        with storage.turn(f"journal:{tmp_path}/s.journal", "s")():
            order.append("second")

    waiting = threading.Thread(target=wait)
    waiting.start()
    with turn():
        assert time.monotonic() - began >= 3
        held.set()
        waiting.join(4.0)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
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
