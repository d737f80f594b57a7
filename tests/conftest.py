"""What every test may use: composed and typed configs, the project with a third engine, the real photographs."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from watchme.cli import command_line as cli
from watchme.cli import resolvers
from watchme.config.schema import RunConfig
from watchme.config.validation import validate
from watchme.core.interfaces import EpochEvent, Job, Result, Shown, Stop
from watchme.core.registry import load_mode, load_model
from watchme.data.demo import DemoWorld, DemoWorldConfig, ensure_demo_world
from watchme.run.runner import run as run_job

cli.share_cores()
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))) > 1:
    # More threads than cores wait for each other at every operation: ten times the time.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

PROJECT = Path(__file__).resolve().parent.parent
BACKEND_VARIABLES = ("YOLO_", "OSNET_", "WANDB_", "WATCHME_CACHE", "WATCHME_WEIGHTS")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Folders are run by several processes; files, benchmarks and -s in this one, where output and a debugger work."""
    files = any(not Path(each.partition("::")[0]).is_dir() for each in config.args)
    measured = "benchmark" in config.option.markexpr.replace("not benchmark", "")
    if files or measured or config.option.capture == "no":
        return 0
    return min(os.cpu_count() or 1, 4)  # each takes 2 to 3 GB


def pytest_configure(config: pytest.Config) -> None:
    """Keep the demo world and library settings of the tests away from the user's, and his variables from us.

    Before the test modules are imported: ultralytics reads once, at its import, where its settings and fonts are.
    """
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in list(os.environ):
        if name.startswith(BACKEND_VARIABLES):
            patch.delenv(name)
    folder = Path(tempfile.mkdtemp(prefix="watchme-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    patch.setenv("WATCHME_CACHE", str(folder / "cache"))
    patch.setenv("WATCHME_OFFLINE", "1")  # a test that fetches says so
    patch.setenv("YOLO_CONFIG_DIR", str(folder / "cache" / "ultralytics"))  # as `isolate` sets it
    (folder / "cache" / "ultralytics").mkdir(parents=True)
    if "PYTHONDONTWRITEBYTECODE" in os.environ:  # else every command compiles its libraries anew
        patch.delenv("PYTHONDONTWRITEBYTECODE")
        patch.setenv("PYTHONPYCACHEPREFIX", str(folder / "bytecode"))


@pytest.fixture(scope="session")
def own_cache() -> Path:
    """The folder of the demo worlds and library settings of this session."""
    return Path(os.environ["WATCHME_CACHE"])


@pytest.fixture(autouse=True)
def torch_settings() -> Iterator[None]:
    """Give every test torch's own settings, whatever an engine chose in the one before."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def composed_config() -> Callable[..., DictConfig]:
    """`composed_config(*overrides)`: what Hydra composes for a command line, from the project's conf/."""
    resolvers.register()

    def build(*overrides: str, config_dir: Path = PROJECT / "conf") -> DictConfig:
        with initialize_config_dir(str(config_dir)):
            return compose("config", list(overrides))

    return build


@pytest.fixture(scope="session")
def typed_config(composed_config: Callable[..., DictConfig]) -> Callable[..., RunConfig]:
    """`typed_config(*overrides)`: the validated config of a command line."""
    return lambda *overrides: validate(composed_config(*overrides))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs and weights; skips where it is not there."""
    folder = Path(os.environ.get("WATCHME_REAL_DATA", PROJECT.parent / "shared" / "people"))
    if not folder.is_dir():
        pytest.skip(f"no real photographs at {folder} (WATCHME_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def third_engine_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the engine of tests/third_engine added as new files only."""
    root = tmp_path_factory.mktemp("project")
    for name in ("watchme", "conf"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "train.py", root)
    added = PROJECT / "tests" / "third_engine"
    shutil.copytree(added / "engine", root / "watchme" / "engines" / "constant")
    for path in (added / "conf").rglob("*.yaml"):
        target = root / "conf" / path.relative_to(added / "conf")
        assert not target.exists()
        shutil.copy(path, target)
    return root


@pytest.fixture(scope="session")
def train_py(third_engine_project: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`train_py(*arguments)`: run that copy's train.py, with torch made impossible to import."""
    script = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path('train.py', run_name='__main__')"

    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=third_engine_project,
            env={**os.environ, "PYTHONPATH": str(third_engine_project), **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def small_world(own_cache: Path) -> DemoWorld:
    """A demo world that is drawn in a second: 12 identities, 3 cameras, 160 px frames."""
    return ensure_demo_world(DemoWorldConfig(identities=12, cameras=3, frame_size=160, walk_length=3))


@pytest.fixture(scope="session")
def run_whole(composed_config: Callable[..., DictConfig]) -> Callable[..., Result]:
    """`run_whole(folder, *overrides)`: a run with its folder, as train.py makes it, in this process."""

    def run(folder: Path, *overrides: str) -> Result:
        composed = composed_config("tracker=none", *overrides)
        return run_job(validate(composed), composed, folder, list(overrides))

    return run


@dataclass
class Recorded:
    """What an engine told the house in one run."""

    result: Result
    events: list[EpochEvent]
    shown: list[Shown]
    manifest: dict[str, Any]
    fallbacks: list[str]
    resumed: list[int]
    folder: Path


@pytest.fixture(scope="session")
def run_engine(typed_config: Callable[..., RunConfig]) -> Callable[..., Recorded]:
    """`run_engine(folder, *overrides)`: validate, route and run in this process, and keep what is told."""

    def run(folder: Path, *overrides: str, emit: Callable[[EpochEvent], Stop | None] | None = None) -> Recorded:
        config = typed_config(*overrides)
        told = Recorded(Result({}, 0.0), [], [], {}, [], [], folder)

        def take(event: EpochEvent) -> Stop | None:
            told.events.append(event)
            return emit(event) if emit else None

        job = Job(
            config,
            folder,
            take,
            told.resumed.append,
            told.manifest.__setitem__,
            told.fallbacks.append,
            told.shown.append,
            lambda engine, weights: load_model(engine, weights, config.train.device),
        )
        told.result = load_mode(config.model.engine, config.mode)(job)
        return told

    return run
