"""ultralytics without side effects: no user settings, analytics, pip installs, downloads or own trackers.

Import ultralytics only after `isolate()`, which sets what it reads at import.
"""

import contextlib
import importlib.util
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchme.io.cache import cache_dir

_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "vscode_msg", "openvino_msg")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def isolate() -> None:
    """Set up the process for ultralytics; calling it again is harmless."""
    home = cache_dir()
    os.environ["YOLO_CONFIG_DIR"] = str(home / "ultralytics")
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    # A key in the environment would start ultralytics' own hosted tracking.
    os.environ.pop("ULTRALYTICS_API_KEY", None)
    os.environ.setdefault("MPLCONFIGDIR", str(home / "matplotlib"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "torchinductor"))
    (home / "ultralytics").mkdir(parents=True, exist_ok=True)
    Path(os.environ["MPLCONFIGDIR"]).mkdir(parents=True, exist_ok=True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    with _quiet_import():
        from ultralytics import utils
    # In memory only: several runs would write one settings file at once.
    wanted = {"sync": False, "api_key": "", "weights_dir": str(home / "weights")}
    wanted |= dict.fromkeys(_INTEGRATIONS, False)
    dict.update(utils.SETTINGS, {name: value for name, value in wanted.items() if name in utils.SETTINGS})
    if utils.USER_CONFIG_DIR.is_relative_to(home):
        _provide_fonts(utils.USER_CONFIG_DIR)
    # It draws progress bars where it is verbose; without a terminal they would be hundreds of lines.
    utils.VERBOSE = sys.stdout.isatty()
    _route_logs(utils.LOGGER)


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """Restore torch's number of threads after a block: ultralytics sets its own on a CPU."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Mute the lines about a new settings file, which ultralytics logs while it is imported."""
    before = os.environ.get("YOLO_VERBOSE")
    os.environ["YOLO_VERBOSE"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["YOLO_VERBOSE"]
        else:
            os.environ["YOLO_VERBOSE"] = before


def _provide_fonts(folder: Path) -> None:
    """Put matplotlib's font where ultralytics expects Arial, which it would download otherwise."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return
    font = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        if font.is_file() and not (folder / name).is_file():
            temporary = folder / f".{name}.{os.getpid()}"
            shutil.copyfile(font, temporary)
            temporary.replace(folder / name)


def _route_logs(logger: logging.Logger) -> None:
    """Send ultralytics' messages to train.log, and warnings to the console too."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.addHandler(_Forward())
    logger.propagate = False
    logger.setLevel(logging.INFO)


class _Forward(logging.Handler):
    """Passes a record to the root logger's files, and from WARNING on to all of its handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        text = _ANSI.sub("", record.getMessage()).strip()
        if not text:
            return
        values: dict[str, Any] = {**record.__dict__, "msg": text, "args": None}
        root = logging.getLogger()
        handlers: list[logging.Handler] = list(root.handlers)
        # The ranks of a multi-GPU run have no logging set up; their warnings must not be lost.
        if not handlers and logging.lastResort is not None:
            handlers = [logging.lastResort]
        for handler in handlers:
            if record.levelno >= logging.WARNING or isinstance(handler, logging.FileHandler):
                handler.handle(logging.makeLogRecord(values))
