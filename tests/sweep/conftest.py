"""A copy of the project with the stand-in engine, and its sweeps run as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from watchme.sweep.storage import open_storage

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
# Trials must not import torch, so that a test takes no longer than what it tests.
# (`sys.modules['torch'] = None` would do, were it not for SciPy, which looks there.)
NO_TORCH = """
import runpy, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'torch':
            raise ImportError('a trial must not import torch')
sys.meta_path.insert(0, NoTorch())
"""
_SCRIPT = NO_TORCH + "runpy.run_path('train.py', run_name='__main__')"

Command = Callable[..., list[str]]


@dataclass
class Swept:
    """A sweep that has ended."""

    folder: Path
    code: int
    stdout: str
    stderr: str

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials in the study of the folder."""
        return trials_of(self.folder)

    @property
    def states(self) -> dict[str, int]:
        """State -> count; a trial that was lost counts as `LOST`."""
        return states(self.trials)

    def manifest(self, number: int) -> dict[str, Any]:
        """`run.json` of a trial."""
        found: dict[str, Any] = json.loads((self.folder / str(number) / "run.json").read_text())
        return found


def trials_of(folder: Path) -> list[FrozenTrial]:
    """The trials in the study of a sweep's folder."""
    stored = json.loads((folder / "study.json").read_text())
    study = optuna.load_study(study_name=stored["study"], storage=open_storage(stored["storage"]))
    found: list[FrozenTrial] = study.get_trials(deepcopy=False)
    return found


def states(trials: list[FrozenTrial]) -> dict[str, int]:
    """State -> count; a trial that was lost counts as `LOST`."""
    return dict(Counter("LOST" if trial.user_attrs.get("lost") else trial.state.name for trial in trials))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the engine and the options of `standin/` as additional files."""
    root = tmp_path_factory.mktemp("sweep-project")
    for name in ("watchme", "conf"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "train.py", root)
    shutil.copy(HERE / "standin" / "sweep_hooks.py", root)
    shutil.copytree(HERE / "standin" / "engine", root / "watchme" / "engines" / "standin")
    shutil.copytree(HERE / "standin" / "conf", root / "conf", dirs_exist_ok=True)
    return root


@pytest.fixture(scope="session")
def begin(project: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """`begin(folder, *arguments, **variables)`: start `train.py -m model=standin ...` and return its process."""

    def start(folder: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, "-m", "model=standin", f"hydra.sweep.dir={folder}", *arguments],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.fixture(scope="session")
def sweep(begin: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., Swept]:
    """`sweep(folder, *arguments, **variables)`: run a sweep to its end."""

    def run(folder: Path, *arguments: str, **variables: str) -> Swept:
        process = begin(folder, *arguments, **variables)
        stdout, stderr = process.communicate(timeout=240)
        return Swept(folder, process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="session")
def train(project: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`train(*arguments)`: run the copy's train.py, without -m."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", _SCRIPT, *arguments],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
