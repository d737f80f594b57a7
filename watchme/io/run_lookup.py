"""Trained weights and the run that they come from: below the engines, so that these may ask, and free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from watchme.core.errors import CheckpointError
from watchme.io.files import read_json

MANIFEST = "run.json"
CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
WEIGHTS = "weights"
STUDY = "study.json"  # in a sweep's folder: the study that it belongs to
SWEEP_REPORT = Path("report") / "index.html"  # in a sweep's folder
CALIBRATION = "calibration.json"
CALIBRATION_MEANS = "means"  # its part for means of images, as of a track


# Types of values in run.json that are read again.
_MAPPINGS = ("process", "choices", "git", "packages", "hardware", "timings", "dataset", "wandb", "check", "device")
_MANIFEST: Mapping[str, Any] = {
    **dict.fromkeys((*_MAPPINGS, "initial_weights"), dict),
    **dict.fromkeys(("overrides", "fallbacks", "next", "resumed", "started_again"), list),
    **dict.fromkeys(("status", "command", "host", "started", "ended", "error"), str),
}


def manifest_of(folder: Path) -> dict[str, Any]:
    """The run.json of a folder, less what is damaged; empty without one."""
    return of_types(read_json(folder / MANIFEST), _MANIFEST)


def of_types(values: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are null or of their type, as damage may leave others."""
    return {key: value for key, value in values.items() if value is None or isinstance(value, types.get(key, object))}


def folder_of(checkpoint: Path) -> Path | None:
    """The run folder that `checkpoint` belongs to: itself, or the one whose weights/ it is in. None if neither."""
    for folder in (checkpoint, checkpoint.parent.parent):
        if (folder / MANIFEST).is_file() and (folder / CONFIG).is_file():
            return folder
    return None


def weights_of(path: Path) -> Path:
    """A weights file as it is; of a run folder its best weights."""
    return path / WEIGHTS / "best.pt" if folder_of(path) == path else path


def config_of(weights: Path) -> dict[str, Any] | None:
    """The resolved config of the run whose weights/ a file is in; None for any other file.

    Raises:
        CheckpointError: If that run's config.yaml cannot be read.
    """
    folder = folder_of(weights.expanduser())
    if folder is None:
        return None
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{folder / CONFIG}, which says what {weights} needs, cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG}, which says what {weights} needs, holds no config")
    return config
