"""A database that does not answer for a while: what is repeated, what is not, and a trial that trains on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import IntegrityError, OperationalError

from watchme.core.interfaces import EpochEvent
from watchme.sweep import pruning_callback, retry, storage
from watchme.sweep.storage import StorageError


def outage() -> Exception:
    """What psycopg raises while the server restarts."""
    return OperationalError("SELECT 1", {}, Exception("the database system is starting up"))


def wrapped(cause: Exception) -> Exception:
    """An error of the database as Optuna passes it on."""
    error: Exception = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that `retry` would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept)))
    return slept


def test_an_outage_is_waited_for_with_backoff(waits: list[float]) -> None:
    errors = [outage(), wrapped(outage()), StorageError("no lock"), outage(), outage(), outage(), outage()]

    def action() -> int:
        if errors:
            raise errors.pop()
        return 7

    assert retry.retry(action) == 7
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_it_ends_and_other_errors_are_not_repeated(waits: list[float]) -> None:
    def always() -> None:
        raise outage()

    with pytest.raises(StorageError, match=r"has not answered for 60 s.*starting up"):
        retry.retry(always, patience_s=60.0)
    assert sum(waits) <= 60.0
    for error in (wrapped(IntegrityError("INSERT", {}, Exception("duplicate"))), ValueError("wrong")):
        calls: list[int] = []

        def broken(calls: list[int] = calls, error: Exception = error) -> None:
            calls.append(1)
            raise error

        with pytest.raises(type(error)):
            retry.retry(broken)
        assert calls == [1]


def test_a_trial_trains_on_and_reports_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(study_name="s", storage=storage.open_storage(url), direction="maximize")
    trial = study.ask({"x": FloatDistribution(0.0, 1.0)})
    given = SimpleNamespace(
        storage=url, study="s", number=0, trial_id=trial._trial_id, objectives=[], prune=True, keep_pruned_weights=True
    )
    config: Any = SimpleNamespace(trial=given, objective="val/map")
    callback = pruning_callback.PruningCallback(config, tmp_path)
    report = callback.trial.report

    def answers(epoch: int) -> bool:
        return epoch not in (2, 3)

    for epoch in (1, 2, 3, 4):

        def maybe(value: float, step: int, epoch: int = epoch) -> None:
            if not answers(epoch):
                raise outage()
            report(value, step)

        monkeypatch.setattr(callback.trial, "report", maybe)
        assert callback.on_epoch(EpochEvent(epoch, 9, {"val/map": epoch / 10})) is None
        stored = study.get_trials()[0].intermediate_values
        assert sorted(stored) == {1: [1], 2: [1], 3: [1], 4: [1, 2, 3, 4]}[epoch]
    assert stored == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4})
