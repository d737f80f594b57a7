"""Command lines in this process."""

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from watchme.cli import main as cli
from watchme.core.interfaces import Result
from watchme.run import runner

Command = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Command]:
    """`command(arguments)`: what train.py ends with and prints, in this process; nothing is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "run", lambda config, composed, folder, overrides: Result({}, 0.5))
    handlers = list(logging.getLogger().handlers)

    def run(arguments: list[str]) -> tuple[int, str]:
        text = io.StringIO()
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            code: Any = 0
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code
            finally:
                GlobalHydra.instance().clear()
        return code or 0, text.getvalue()

    yield run
    HydraConfig.instance().cfg = None
    logging.getLogger().handlers[:] = handlers
