"""Liveness of processes, and SIGTERM as Ctrl-C."""

import os
import signal
import subprocess
import sys

import pytest

from watchme.core.liveness import has_ended, this_process
from watchme.core.signals import sigterm_interrupts


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


def test_sigterm_interrupts_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
