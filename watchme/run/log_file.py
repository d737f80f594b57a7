"""train.log of a run: log records are kept in memory until the run's folder may be written."""

import logging


class RunLogFile(logging.FileHandler):
    """A file handler that makes and writes no file before `start`; conf/hydra/job_logging names it.

    A command that is refused changes nothing in the folder of a run, its log included.
    """

    def __init__(self, filename: str, mode: str = "a", encoding: str = "utf-8", delay: bool = True) -> None:
        super().__init__(filename, mode, encoding, delay=True)
        self._waiting: list[logging.LogRecord] | None = []

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


def start_log_file() -> None:
    """Start the log file of the run that this process works on."""
    for logger in (logging.getLogger(), logging.getLogger("py.warnings")):
        for handler in logger.handlers:
            if isinstance(handler, RunLogFile):
                handler.start()
