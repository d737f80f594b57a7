"""Imports that a library tries, does without, and that would take longer than all that this project asks of it."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def skipped(*names: str) -> Iterator[None]:
    """Have imports of modules fail that are not imported yet, as if they were not installed.

    >>> with skipped("wave"):
    ...     import wave
    Traceback (most recent call last):
    ModuleNotFoundError: import of wave halted; None in sys.modules
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is the import system's own sign for it
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
