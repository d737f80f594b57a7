"""SIGTERM (Slurm, `docker stop`) and SIGHUP (a closed terminal) end a run or a sweep as Ctrl-C does."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP within the block; does nothing outside the main thread.

    SIGHUP stays ignored where `nohup` has made it so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        # A forked loader process inherits the handler; it must simply end.
        if os.getpid() != owner:
            os._exit(128 + signum)
        raise KeyboardInterrupt

    handled = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        handled.append(signal.SIGHUP)
    before = [(number, signal.signal(number, interrupt)) for number in handled]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
