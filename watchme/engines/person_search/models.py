"""The two models that `detector` and `reid` name: of any engine, by their run or by their file."""

from pathlib import Path
from typing import cast

from watchme.config.schema import RunConfig
from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Detector, Embedder, Job
from watchme.io.run_lookup import config_of, weights_of

_KINDS = {"detector": "detector", "reid": "re-ID model"}
# Of weights that are not in a run folder.
_ENGINES = {"detector": "yolo", "reid": "osnet"}


def weights_files(config: RunConfig) -> dict[str, Path | None]:
    """The files that `detector` and `reid` stand for; None where there is none."""
    given = {"detector": config.detector, "reid": config.reid}
    return {key: None if path is None else weights_of(Path(path).expanduser()) for key, path in given.items()}


def load_detector(job: Job) -> Detector:
    """The model that `detector` names.

    Raises:
        CheckpointError: If it cannot be read, or is no detector; it names the key.
    """
    return cast(Detector, _load(job, "detector", job.config.detector, "detect"))


def load_embedder(job: Job) -> Embedder:
    """The model that `reid` names.

    Raises:
        CheckpointError: If it cannot be read, or is no re-ID model; it names the key.
    """
    return cast(Embedder, _load(job, "reid", job.config.reid, "embed"))


def _load(job: Job, key: str, path: str | None, method: str) -> Detector | Embedder:
    assert path is not None
    weights = weights_of(Path(path).expanduser())
    config = config_of(weights)
    engine = _ENGINES[key] if config is None else str(config["model"]["engine"])
    try:
        model = job.load_model(engine, weights)
    except CheckpointError as error:
        fix = f"Give the weights of a {_KINDS[key]}: {key}=<run>/weights/best.pt"
        raise CheckpointError(f"{key}: {error}\n    {fix}") from error
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.endswith(f"{engine}.inference"):
            raise
        raise CheckpointError(f"{key}: the {engine} engine, which trained {weights}, offers no models") from None
    if not hasattr(model, method):
        raise CheckpointError(f"{key}: {weights} is of the {engine} engine, which is no {_KINDS[key]}")
    for text in model.assumed:
        job.fallback(text)
    return model
