"""SIGTERM (Slurm, `docker stop`) and SIGHUP (a closed terminal) end a run or a sweep as Ctrl-C does."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_AGAIN_S = 0.1
_came = [False]  # whether a signal has come; no Event, whose lock a handler could wait for


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt again in the main thread, if that of a signal got lost in somebody's code."""
    if _came[0] and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP within the block; does nothing outside the main thread.

    SIGHUP stays ignored where `nohup` has made it so. An interrupt that Python drops, because it came in a `__del__` or
    another callback, is sent again; one that is lost otherwise, SIGINT's too, `raise_if_interrupted` raises.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        # A forked loader process inherits the handler; it must simply end. Of SIGINT torch takes care there.
        if os.getpid() == owner:
            _came[0] = True
        elif signum != signal.SIGINT:
            os._exit(128 + signum)
        raise KeyboardInterrupt

    again: list[threading.Timer] = []

    def dropped(unraisable: "sys.UnraisableHookArgs") -> None:
        if os.getpid() != owner or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook_before(unraisable)
            return
        again.append(threading.Timer(_AGAIN_S, signal.pthread_kill, (main_thread, signal.SIGTERM)))
        again[-1].start()

    handled = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        handled.append(signal.SIGINT)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        handled.append(signal.SIGHUP)
    main_thread, hook_before, sys.unraisablehook = threading.get_ident(), sys.unraisablehook, dropped
    before = [(number, signal.signal(number, interrupt)) for number in handled]
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
            timer.join()
        sys.unraisablehook = hook_before
        _came[0] = False
        for number, handler in before:
            signal.signal(number, handler)
