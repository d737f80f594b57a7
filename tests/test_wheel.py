"""The wheel: built offline, installed into an empty environment, it composes a config from another folder."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from watchme import __version__

PROJECT = Path(__file__).resolve().parent.parent
pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel alone; our dependencies are reached by a .pth file."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(root)], check=True)
    python = root / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = root.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return root / "bin"


def run(command: Path, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([str(command), *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_the_config_tree_and_every_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for source, target in (("conf", "watchme/conf"), ("watchme", "watchme")):
        suffixes = {".yaml"} if source == "conf" else {".py", ".md", ".jinja", ".js", ".css"}
        expected = {
            f"{target}/{path.relative_to(PROJECT / source).as_posix()}"
            for path in (PROJECT / source).rglob("*")
            if path.suffix in suffixes
        }
        assert expected <= names, sorted(expected - names)


def test_the_console_script_composes_what_train_py_composes(installed: Path, tmp_path: Path) -> None:
    script = installed / "watchme-train"
    shown = run(script, "model=osnet_ibn", "train.epochs=3", "--cfg", "job", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    here = subprocess.run(
        [sys.executable, "train.py", "model=osnet_ibn", "train.epochs=3", "--cfg", "job"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == here.stdout
    assert "epochs: 3" in shown.stdout
    assert run(script, "--version", cwd=tmp_path).stdout.startswith(f"watchme-train {__version__} ")
    refused = run(script, "train", cwd=tmp_path).stderr
    assert "watchme-train model=<option> dataset=<option>" in " ".join(refused.split())
    assert "train.py" not in refused


def test_it_is_the_wheel_that_answers(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import watchme; print(watchme.__file__)", cwd=tmp_path)
    assert str(installed.parent) in where.stdout
