"""model.engine -> the folder `watchme/engines/<name>` that runs it. A new engine is found without being listed.

An engine's folder holds `config.py` (dataclass `Config`, function `check`; no torch) and `engine.py` (class
`Engine`, see contract.py), which is imported only when the config is known to be good.
"""

import importlib
import pkgutil
from types import ModuleType

from watchme import engines
from watchme.contract import Engine


def engine_names() -> list[str]:
    """Names of the engines that are installed: the packages below `watchme/engines`."""
    return sorted(found.name for found in pkgutil.iter_modules(engines.__path__) if found.ispkg)


def load_config_module(name: str) -> ModuleType:
    """Import the light part of an engine: its `Config` dataclass and its `check(config) -> list[Problem]`."""
    return importlib.import_module(f"{engines.__name__}.{name}.config")


def load_engine(name: str) -> Engine:
    """Import an engine and all that it needs (torch, its library), and return an instance."""
    engine: Engine = importlib.import_module(f"{engines.__name__}.{name}.engine").Engine()
    return engine
