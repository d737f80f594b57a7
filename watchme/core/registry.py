"""model.engine -> the folder `watchme/engines/<name>` that runs it. A new engine is found without being listed.

An engine's folder holds `config.py` (dataclass `Config`), may hold `config_rules.py` (`check(config)`: what a valid
config must fulfil beyond its types), both without torch, and one file for each mode that it offers, which is imported
only when the config is known to be valid:

    train.py    train(job): train, select on validation, evaluate the test split once
    evaluate.py evaluate(job): metrics of a checkpoint
    check.py    check(job): find faults of the dataset; no torch
    export.py   export(job): weights in other formats
    search.py   search(job): person search, by a detector and a re-ID model together
    predict.py  predict(job): people in one's own pictures and videos
    find.py     find(job): a person in one's own pictures and videos
    embed.py    embed(job): features of one's own crops
    inference.py load(weights, device, *, trust): a trained `Detector` or `Embedder`, for the modes of other engines

A mode is a function `<mode>(job: Job) -> Result` in the file `<mode>.py`. See interfaces.py for `Job`, `Result`,
`Detector` and `Embedder`.
"""

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from watchme import engines
from watchme.config.schema import Mode, RunConfig
from watchme.core.errors import Problem

if TYPE_CHECKING:
    from watchme.core.interfaces import Detector, Embedder, Job, Result

MODES: tuple[str, ...] = get_args(Mode)


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
    return tuple(mode for mode in MODES if importlib.util.find_spec(f"{folder}.{mode}") is not None)


def load_config_class(name: str) -> type[RunConfig]:
    """Import an engine's config schema: the dataclass `Config` of its config.py."""
    config_class: type[RunConfig] = importlib.import_module(f"{engines.__name__}.{name}.config").Config
    return config_class


def check_config(name: str, config: RunConfig) -> list[Problem]:
    """What an engine's config_rules.py finds wrong with a config whose types and ranges are right."""
    rules = f"{engines.__name__}.{name}.config_rules"
    if importlib.util.find_spec(rules) is None:
        return []
    problems: list[Problem] = importlib.import_module(rules).check(config)
    return problems


def load_mode(name: str, mode: str) -> "Callable[[Job], Result]":
    """Import what an engine needs for a mode (torch, its library), and return the function that runs it."""
    function: Callable[[Job], Result] = getattr(importlib.import_module(f"{engines.__name__}.{name}.{mode}"), mode)
    return function


def load_model(
    name: str, weights: Path, device: str | int | list[int], *, trust: bool = False
) -> "Detector | Embedder":
    """Load trained weights for inference by the engine's inference.py; see `train.device` and YOLO's `model.trust`."""
    inference = importlib.import_module(f"{engines.__name__}.{name}.inference")
    model: Detector | Embedder = inference.load(weights, device, trust=trust)
    return model
