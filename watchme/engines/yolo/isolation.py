"""ultralytics kept to itself: no settings of the user, no analytics, no pip, no downloads, no other tracker.

Import ultralytics only after `isolate()`, which sets what it reads at import.
"""

import logging
import os
import sys
from typing import Any

from watchme.cache import cache_dir

_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "neptune", "hub")


def isolate() -> None:
    """Set up the process for ultralytics; may be called again."""
    home = cache_dir()
    os.environ["YOLO_CONFIG_DIR"] = str(home / "ultralytics")
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ.setdefault("MPLCONFIGDIR", str(home / "matplotlib"))
    # The backend's YOLO_* variables are for our config; ultralytics reads none of those names.
    (home / "ultralytics").mkdir(parents=True, exist_ok=True)
    (home / "matplotlib").mkdir(parents=True, exist_ok=True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    quiet = _quiet_import()
    try:
        from ultralytics.utils import LOGGER, SETTINGS
    finally:
        quiet()
    changes: dict[str, Any] = {"sync": False} | {name: False for name in _INTEGRATIONS if name in SETTINGS}
    if any(SETTINGS.get(name) is not False for name in changes):
        SETTINGS.update(changes)
    _route_logs(LOGGER)


def _quiet_import() -> Any:
    """Mute the lines about a new settings file, which ultralytics logs while it is imported."""
    if "ultralytics" in sys.modules:
        return lambda: None
    before = os.environ.get("YOLO_VERBOSE")
    os.environ["YOLO_VERBOSE"] = "false"

    def restore() -> None:
        if before is None:
            del os.environ["YOLO_VERBOSE"]
        else:
            os.environ["YOLO_VERBOSE"] = before
        import ultralytics.utils

        ultralytics.utils.VERBOSE = True

    return restore


def _route_logs(logger: logging.Logger) -> None:
    """ultralytics' messages go to train.log; warnings to the console too. Its bar stays on a terminal."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.addHandler(_Forward())
    logger.propagate = False
    # Its bars are on where its level is INFO; without a terminal they would be hundreds of lines.
    logger.setLevel(logging.INFO if sys.stdout.isatty() else logging.WARNING)


class _Forward(logging.Handler):
    """Hands a record to the root logger's files, and from WARNING on to all of its handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        if not text:
            return
        record = logging.makeLogRecord({**record.__dict__, "msg": text, "args": None})
        for handler in logging.getLogger().handlers:
            if record.levelno >= logging.WARNING or isinstance(handler, logging.FileHandler):
                handler.handle(record)
