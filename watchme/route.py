"""model.engine -> the folder `watchme/engines/<name>` that runs it. A new engine is found without being listed.

An engine's folder holds `config.py` (dataclass `Config`, function `check`; no torch) and one file for each mode that
it offers, which is imported only when the config is known to be good:

    engine.py   class `Engine`: train, evaluate     check.py    check(job): look through the dataset; no torch
    export.py   export(job): weights for others     search.py   search(job): detector and re-ID model together
    inference.py   load(weights, device): a trained `Detector` or `Embedder`, for the modes of other engines

See contract.py for `Engine`, `Job`, `Result`, `Detector` and `Embedder`.
"""

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from watchme import engines
from watchme.contract import Detector, Embedder, Engine, Job, Result

_FILES = {"train": "engine", "evaluate": "engine", "check": "check", "export": "export", "search": "search"}


def engine_names() -> list[str]:
    """Names of the engines that are installed: the packages below `watchme/engines`."""
    return sorted(found.name for found in pkgutil.iter_modules(engines.__path__) if found.ispkg)


@functools.cache
def modes(name: str) -> tuple[str, ...]:
    """The modes that an engine offers: those whose file its folder has; none of an engine that is not installed.

    Nothing heavy is imported.
    """
    if name not in engine_names():
        return ()
    folder = f"{engines.__name__}.{name}"
    return tuple(mode for mode, file in _FILES.items() if importlib.util.find_spec(f"{folder}.{file}") is not None)


def load_config_module(name: str) -> ModuleType:
    """Import the light part of an engine: its `Config` dataclass and its `check(config) -> list[Problem]`."""
    return importlib.import_module(f"{engines.__name__}.{name}.config")


def load_work(name: str, mode: str) -> Callable[[Job], Result]:
    """Import what an engine needs for a mode (torch, its library), and return what does the work."""
    module = importlib.import_module(f"{engines.__name__}.{name}.{_FILES[mode]}")
    work: Callable[[Job], Result]
    if _FILES[mode] == "engine":
        engine: Engine = module.Engine()
        work = getattr(engine, mode)
    else:
        work = getattr(module, mode)
    return work


def load_model(name: str, weights: Path, device: str | int | list[int]) -> Detector | Embedder:
    """Load trained weights for inference, by the engine's inference.py; `device` as in `train.device`."""
    model: Detector | Embedder = importlib.import_module(f"{engines.__name__}.{name}.inference").load(weights, device)
    return model
