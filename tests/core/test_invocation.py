"""Commands that are printed begin as the user's own did."""

import sys
from pathlib import Path

import pytest

from watchme.cli.help import help_text
from watchme.config.conf_dir import CONF
from watchme.core import invocation
from watchme.core.errors import ConfigError, Problem
from watchme.data.check.fixes import command as mending_command
from watchme.run.provenance import _TYPED, command
from watchme.run.summary import resume_command

NAMES = {"root": "/data/a b", "dataset": "person_detection", "model": "yolo11n", "task": "detection"}


def printed() -> list[str]:
    """Texts with commands: an error, the help, how to go on, what mends a dataset."""
    error = ConfigError([Problem("sweeper", "tunes only with -m: python train.py -m ...")])
    return [str(error), help_text(CONF), resume_command(Path("a b")), mending_command("odd size", Path("x"), NAMES)]


@pytest.mark.parametrize("script", ["/opt/env/bin/watchme-train", "watchme-train.exe"])
def test_the_console_script_is_named(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    for text in printed():
        assert "watchme-train " in text
        assert "train.py" not in text


def test_train_py_is_named_in_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert all("python train.py " in text for text in printed())


def test_an_installed_package_has_no_train_py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(invocation, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    assert invocation.as_started("python train.py -m") == "watchme-train -m"


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("/opt/env/bin/watchme-train", "watchme-train"),
        ("train.py", "python train.py"),
        ("../watchme/train.py", "python ../watchme/train.py"),
    ],
)
def test_the_recorded_command_is_the_one_typed(script: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    token = _TYPED.set((script, "model=osnet", "dataset.root=/a b"))
    try:
        assert command() == f"{shown} model=osnet 'dataset.root=/a b'"
    finally:
        _TYPED.reset(token)
