"""The ends of ranks' connections, in every order that a busy machine may see them in."""

import multiprocessing
import os
import subprocess
import threading
from multiprocessing.connection import Client, Connection, Listener

import pytest

from watchme.core.errors import TrainingError
from watchme.core.interfaces import EpochEvent
from watchme.engines.yolo import distributed


def connect() -> Connection:
    """As a rank does."""
    return Client(os.environ[distributed._ADDRESS], authkey=bytes.fromhex(os.environ[distributed._KEY]))


def ended_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_rank_that_has_lost_another_one_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may say so before the end of the other one is seen."""
    fail, noted = distributed._Parent.fail, threading.Semaphore(0)

    def noting(self: distributed._Parent, error: BaseException) -> None:
        fail(self, error)
        noted.release()

    def lose(pids: list[int]) -> None:
        ranks = [connect() for _ in pids]
        for rank, pid in enumerate(pids):
            ranks[rank].send((rank, pid))
        ranks[0].send(distributed.LostPeerError("the process of rank 0 failed: Connection closed by peer"))
        assert noted.acquire(timeout=20)
        ranks[1].close()
        assert noted.acquire(timeout=20)
        raise subprocess.CalledProcessError(1, "torch.distributed.run")

    monkeypatch.setattr(distributed._Parent, "fail", noting)
    pids = [subprocess.Popen(["sleep", "60"]).pid for _ in range(2)]
    with pytest.raises(TrainingError, match=r"rank 1 \(pid \d+\) was killed"), distributed.serve(lambda event: None):
        lose(pids)


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when `serve` no longer listens to ranks."""
    event, end_all = threading.Event(), distributed._Parent.end_all

    def noted(self: distributed._Parent) -> None:
        event.set()
        end_all(self)

    monkeypatch.setattr(distributed._Parent, "end_all", noted)
    return event


def test_a_killed_rank_is_named_although_the_end_of_the_launcher_is_seen_first(
    ending: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Connection.recv

    def late(self: Connection) -> object:
        try:
            return receive(self)
        except EOFError:
            ending.wait(1)
            raise

    def end() -> None:
        with connect() as rank:
            rank.send((1, ended_pid()))
            rank.send(EpochEvent(1, 3, {}))
            assert rank.recv() is None, "its process id has been read"
        raise subprocess.CalledProcessError(1, "torch.distributed.run")

    monkeypatch.setattr(Connection, "recv", late)
    with pytest.raises(TrainingError, match=r"rank 1 \(pid \d+\) was killed"), distributed.serve(lambda event: None):
        end()


def test_a_run_may_end_as_a_rank_connects(ending: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Listener):
        def accept(self) -> Connection:
            connection = super().accept()
            ending.wait(20)
            return connection

    def end() -> None:
        with distributed.serve(lambda event: None):
            connect().close()

    monkeypatch.setattr(distributed, "Listener", Late)
    run = threading.Thread(target=end, daemon=True)
    run.start()
    run.join(20)
    assert not run.is_alive()


def test_processes_of_a_rank_s_loader_do_not_keep_its_connection_open() -> None:
    """They notice its end after seconds; until then it would not count as killed."""
    with Listener(authkey=b"key") as listener:
        accepted: list[Connection] = []
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
        thread.start()
        rank = distributed.ParentConnection(str(listener.address), b"key", ended_pid(), 1)
        thread.join()
        loader = multiprocessing.get_context("fork").Process(target=rank.finish)  # says so, if it can
        loader.start()
        loader.join()
        rank.finish()
        assert accepted[0].recv() == (1, os.getpid())
        assert accepted[0].recv() is None
        assert not accepted[0].poll()
        assert loader.exitcode == 1
        accepted[0].close()
