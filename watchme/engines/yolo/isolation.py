"""ultralytics without side effects: no user settings, analytics, pip installs, downloads or own trackers.

Import ultralytics only after `isolate()`, which sets what it reads at import.
"""

import logging
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from watchme.core.errors import CheckpointError
from watchme.core.fonts import dejavu_sans
from watchme.core.process_state import environment
from watchme.io.cache import writable_cache_dir
from watchme.io.files import replacing

_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "vscode_msg", "openvino_msg")
_SAFE_LOAD = "ULTRALYTICS_SAFE_LOAD"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def isolate() -> None:
    """Set up the process for ultralytics; calling it again is harmless.

    Raises:
        WatchmeError: If the cache folder, where ultralytics keeps its settings, cannot be written.
    """
    home = writable_cache_dir()
    os.environ["YOLO_CONFIG_DIR"] = str(home / "ultralytics")
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ.setdefault(_SAFE_LOAD, "true")
    # A key in the environment would start ultralytics' own hosted tracking.
    os.environ.pop("ULTRALYTICS_API_KEY", None)
    os.environ.setdefault("MPLCONFIGDIR", str(home / "matplotlib"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "torchinductor"))
    (home / "ultralytics").mkdir(parents=True, exist_ok=True)
    Path(os.environ["MPLCONFIGDIR"]).mkdir(parents=True, exist_ok=True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    # For the import alone, which else prints lines about a new settings file and looks for a network: YOLO_OFFLINE also
    # forbids the fetching of weights.
    with environment({"YOLO_VERBOSE": "false", "YOLO_OFFLINE": "true"}):
        from ultralytics import utils
        from ultralytics.utils import patches
    # Its own would look for a package that reads HEIC at each file that is no image, and say that it is missing.
    Image.open = getattr(patches, "_image_open", Image.open)  # type: ignore[method-assign, unused-ignore]
    # In memory only: several runs would write one settings file at once.
    wanted = {"sync": False, "api_key": "", "weights_dir": str(home / "weights")}
    wanted |= dict.fromkeys(_INTEGRATIONS, False)
    dict.update(utils.SETTINGS, {name: value for name, value in wanted.items() if name in utils.SETTINGS})
    _provide_fonts(home / "ultralytics" / "Ultralytics", utils.USER_CONFIG_DIR)
    # It draws progress bars where it is verbose; without a terminal they would be hundreds of lines.
    utils.VERBOSE = sys.stdout.isatty()
    _route_logs(utils.LOGGER)


def allow_code_in_files(allowed: bool) -> None:
    """Let ultralytics load .pt files with `pickle`, which runs whatever code they name, or only known classes of it.

    Restricted is the default. The processes of a multi-GPU run inherit the choice by their environment.

    Raises:
        CheckpointError: If the installed versions cannot restrict it.
    """
    os.environ[_SAFE_LOAD] = str(not allowed).lower()
    from ultralytics.nn import tasks

    # Where torch is too old, ultralytics would load without restriction, and without a word.
    if not allowed and not getattr(getattr(tasks, "_SafeLoad", None), "SUPPORTED", False):
        raise CheckpointError(
            "the installed torch or ultralytics cannot load .pt files without running the code that they name; update "
            "them, or set model.trust=true where you trust the files"
        )
    tasks.SAFE_LOAD = not allowed


def _provide_fonts(folder: Path, expected: Path) -> None:
    """Put matplotlib's font where ultralytics expects Arial, which it would download otherwise.

    Where ultralytics was imported before `isolate()`, `expected` is the user's own folder, which stays as it is:
    matplotlib's list of fonts is the other place that ultralytics looks into.
    """
    font = dejavu_sans()
    if font is None:
        return
    folder.mkdir(exist_ok=True)
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        if not (folder / name).is_file():
            with replacing(folder / name) as temporary:
                shutil.copyfile(font, temporary)
        if folder != expected:
            from matplotlib.font_manager import fontManager

            if all(entry.fname != str(folder / name) for entry in fontManager.ttflist):
                fontManager.addfont(folder / name)


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
