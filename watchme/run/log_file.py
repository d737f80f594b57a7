"""Where log records go: to the console above its bars, and to train.log once the run's folder may be written."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class RunLogFile(logging.FileHandler):
    """A file handler that makes and writes no file before `start`.

    A command that is refused changes nothing in the folder of a run, its log included.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter(_FORMAT))
        self._waiting: list[logging.LogRecord] | None = []
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the name is logging's
        """Say once that the file cannot be written, as on a full disk, instead of a traceback for each record."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True
            print(f"{self.baseFilename} cannot be written: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        """Close the file, whose last lines may be lost on a full disk."""
        with contextlib.suppress(OSError):
            super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it for `start`."""
        if self._waiting is None:
            super().emit(record)
        else:
            self._waiting.append(record)

    def start(self) -> None:
        """Write what was logged so far, and from now on every record at once."""
        waiting, self._waiting = self._waiting or [], None
        for record in waiting:
            super().emit(record)


class ConsoleHandler(logging.StreamHandler[TextIO]):
    """Writes log records above the bars that are drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        tqdm = sys.modules.get("tqdm")  # not imported: no bar
        with tqdm.tqdm.external_write_mode(file=self.stream) if tqdm else contextlib.nullcontext():
            super().emit(record)


def _above_bars(handler: logging.Handler) -> logging.Handler:
    """A `ConsoleHandler` for one of logging's; Hydra warns of classes of our own in conf/hydra/job_logging."""
    if type(handler) is not logging.StreamHandler:
        return handler
    console = ConsoleHandler(handler.stream)
    console.setFormatter(handler.formatter)
    console.setLevel(handler.level)
    console.filters = handler.filters
    return console


@contextlib.contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Log to a file within the block, from `start_log_file` on; warnings of libraries go to the file only."""
    handler = RunLogFile(path)
    root, warnings = logging.getLogger(), logging.getLogger("py.warnings")
    root.handlers[:] = map(_above_bars, root.handlers)
    propagated, warnings.propagate = warnings.propagate, False
    for logger in (root, warnings):
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in (root, warnings):
            logger.removeHandler(handler)
        warnings.propagate = propagated
        handler.close()


def start_log_file() -> None:
    """Start the log file of the run that this process works on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RunLogFile):
            handler.start()
