"""Liveness of processes, and SIGTERM as Ctrl-C."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError

import pytest

from watchme.core.liveness import has_ended, is_stopped_for, this_process
from watchme.core.signals import raise_if_interrupted, signals_interrupt


def test_a_process_is_known_to_live_or_to_have_ended() -> None:
    identity = this_process()
    assert has_ended(identity) is False
    assert has_ended({**identity, "started": "1"}) is True  # its id was used again
    assert has_ended({**identity, "machine": "elsewhere"}) is None
    assert has_ended(None) is None
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended({**identity, "pid": child.pid}) is True  # a zombie
    child.wait()
    assert has_ended({**identity, "pid": child.pid}) is True


def test_a_process_that_is_stopped_is_told_from_one_that_runs_or_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(is_stopped_for, child.pid, 0.3, 0.1)
        with pytest.raises(FuturesTimeoutError):
            found.result(0.5)  # it runs
        child.send_signal(signal.SIGSTOP)
        assert found.result(30) is True
        child.send_signal(signal.SIGCONT)
        found = pool.submit(is_stopped_for, child.pid, 0.3, 0.1)
        child.kill()
        assert found.result(30) is False  # a zombie
        child.communicate()
        assert is_stopped_for(child.pid, 0.3, 0.1) is False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_interrupt_and_the_handler_is_put_back(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), signals_interrupt():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_signal_that_python_drops_is_sent_again() -> None:
    """What is raised in a `__del__` goes nowhere."""

    class Loader:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(3):  # handled between two operations
                pass

    def work() -> None:
        Loader()
        threading.Event().wait(10)

    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), signals_interrupt():
        work()
    assert sys.unraisablehook is hook


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_that_somebody_swallows_is_not_lost(number: signal.Signals) -> None:
    def work() -> None:
        with contextlib.suppress(BaseException):  # a library's
            os.kill(os.getpid(), number)
            threading.Event().wait(10)
        raise_if_interrupted()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), signals_interrupt():
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    raise_if_interrupted()  # that one has been handled


def test_nohup_holds() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
