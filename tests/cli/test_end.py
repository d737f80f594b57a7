"""How a command ends: one that ran nothing at once, without freeing what was imported; a run in Python's own way."""

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from PIL import Image

from watchme.cli import main as main_module

PROJECT = Path(__file__).resolve().parents[2]
# Python's own end says so on stdout.
AT_EXIT = "import atexit, sys; atexit.register(print, 'ended'); sys.path.insert(0, sys.argv.pop(1))\n"
MAIN = "from watchme.cli.main import main; main()"
REFUSED = (["train.epochs=x"], ["model=typo"], ["hydra.run.dri=x"])


def run(script: str, arguments: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script, str(PROJECT), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_refused_command_ends_at_once(arguments: list[str], tmp_path: Path) -> None:
    done = run(AT_EXIT + MAIN, arguments, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "1 problem; nothing was run." in done.stderr
    assert done.stderr.endswith("shows the composed config.\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("hydra.run.dir={file}", "a file is where a folder is needed"),
        ("hydra.run.dir={file}/run", "a file is where a folder is needed"),
        ("output_root={file}", "a file is where a folder is needed"),
        ("hydra.run.dir=/proc/run", "No such file or directory"),
        ("hydra.run.dir={long}", "File name too long"),
        ("checkpoint={long}", "File name too long"),
        ("model.weights={long}", "File name too long"),
        ("dataset.root={long}", "File name too long"),
    ],
)
def test_a_path_that_the_system_refuses_is_named(argument: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(AT_EXIT + MAIN, [argument.format(file=tmp_path / "file", long="x" * 300)], tmp_path)
    assert done.returncode == 2
    assert "The config has 1 problem; nothing was run.\n\ncommand line\n" in done.stderr
    assert f"cannot be used: {why}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--info", "defaults"], ["--help"], ["--version"]])
def test_a_command_that_shows_something_ends_at_once(arguments: list[str], tmp_path: Path) -> None:
    done = run(AT_EXIT + MAIN, arguments, tmp_path)
    assert done.returncode == 0
    assert done.stdout
    assert not done.stdout.endswith("ended\n")


def test_python_ends_a_run(tmp_path: Path) -> None:
    """A check of a dataset that holds one black image, which is refused in the end."""
    for folder in ("images", "labels"):
        (tmp_path / folder / "train").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    done = run(AT_EXIT + MAIN, ["mode=check", "dataset=person_detection", f"dataset.root={tmp_path}"], tmp_path)
    assert done.stdout.endswith("ended\n"), done.stderr
    assert list(tmp_path.glob("outputs/*/*/report.html")), done.stdout


def test_python_ends_a_refused_command_under_a_profiler(tmp_path: Path) -> None:
    done = run(AT_EXIT + "sys.setprofile(lambda *_: None)\n" + MAIN, ["train.epochs=x"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "ended\n")


def test_callbacks_of_hydra_hear_of_a_refused_command(tmp_path: Path) -> None:
    """One of the user's, by hydra.callbacks: it is told that the run has ended."""
    (tmp_path / "own.py").write_text(
        "from hydra.experimental.callback import Callback\n"
        "class Own(Callback):\n"
        "    def on_run_end(self, config, **_): print('told')\n"
    )
    script = AT_EXIT + f"sys.path.insert(0, {str(tmp_path)!r})\n" + MAIN
    done = run(script, ["train.epochs=x", "+hydra.callbacks.own._target_=own.Own"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "told\n"), done.stderr


def test_ctrl_c_before_the_run_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command composes and validates for a second or two; Ctrl-C then ended in a traceback of Hydra's frames."""

    def interrupted(_: list[str]) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "prepare", interrupted)
    monkeypatch.setattr(main_module, "_RUNNERS", {"watchme.not_imported"})
    with pytest.raises(SystemExit) as ended:
        main_module._prepare_and_compose()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted before the run began; nothing was changed.\n"
