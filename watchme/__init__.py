"""WatchMe: Hydra-composed training of YOLO person detectors and OSNet re-identification models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchme.api import compose, evaluate, find, load_detector, load_embedder, train

__version__ = "0.1.0"
__all__ = ["__version__", "compose", "evaluate", "find", "load_detector", "load_embedder", "train"]


def __getattr__(name: str) -> Any:
    """Import the API when it is first used, so that `import watchme` takes no time."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from watchme import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
