"""The two models that `detector` and `reid` name: of any engine, by their run or by their file."""

from pathlib import Path
from typing import cast

from watchme.config.schema import RunConfig
from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Detector, Embedder, Job
from watchme.engines.person_search.config import Config
from watchme.inference.models import Kind, load_kind
from watchme.inference.pipeline import Settings
from watchme.io.run_lookup import weights_of

_KINDS: dict[str, Kind] = {"detector": "detector", "reid": "re-ID model"}


def weights_files(config: RunConfig) -> dict[str, Path | None]:
    """The files that `detector` and `reid` stand for; None where there is none."""
    given = {"detector": config.detector, "reid": config.reid}
    return {key: None if path is None else weights_of(Path(path).expanduser()) for key, path in given.items()}


def pipeline_settings(config: Config) -> Settings:
    """How a source is gone through, by the `predict` section."""
    asked = config.predict
    return Settings(asked.confidence, asked.iou, asked.stride, asked.frames, asked.frame_batch, asked.crop_batch)


def load_detector(job: Job) -> Detector:
    """The model that `detector` names.

    Raises:
        CheckpointError: If it cannot be read, or is no detector; it names the key.
    """
    return cast(Detector, _load(job, "detector", job.config.detector))


def load_embedder(job: Job) -> Embedder:
    """The model that `reid` names.

    Raises:
        CheckpointError: If it cannot be read, or is no re-ID model; it names the key.
    """
    return cast(Embedder, _load(job, "reid", job.config.reid))


def _load(job: Job, key: str, path: str | None) -> Detector | Embedder:
    assert path is not None
    weights = weights_of(Path(path).expanduser())

    def load(engine: str, file: Path) -> Detector | Embedder:
        try:
            return job.load_model(engine, file)
        except CheckpointError as error:
            fix = f"Give the weights of a {_KINDS[key]}: {key}=<run>/weights/best.pt"
            raise CheckpointError(f"{key}: {error}\n    {fix}") from error

    model = load_kind(_KINDS[key], weights, load, f"{key}: {weights}")
    for text in model.assumed:
        job.fallback(text)
    return model
