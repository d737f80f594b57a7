"""Checkpoints that are whole or not there, and that hold nothing but tensors and plain values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from watchme.core.errors import CheckpointError
from watchme.core.formatting import some_of
from watchme.io.file_kind import kind_of
from watchme.io.files import replacing


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint by way of a temporary file beside it, synced to disk, so that a kill leaves the old one.

    It may hold what `torch.load(weights_only=True)` reads: tensors, numbers, text, and lists and dicts of them.
    """
    try:
        with replacing(path, sync=True) as temporary, temporary.open("wb") as file:
            torch.save(dict(content), file)
    except RuntimeError as error:
        # torch's writer, left by Ctrl-C or SIGTERM, raises that its file is incomplete; the wish to stop counts.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running code from it.

    torchreid's own checkpoints hold NumPy scalars (`rank1`), which are let through.

    Raises:
        CheckpointError: If the file is missing, damaged, no checkpoint, or needs code to be run.
    """
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of bytes that are no pickle, the unpickler raises what its operations on them raise
        # torch's first sentence; the next ones advise to run the file's code.
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        if kind := kind_of(path):
            reason = f"it is {kind}"
        raise CheckpointError(f"{path} cannot be read as a checkpoint of tensors: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dict of tensors or with state_dict")
    return content


def require_finite(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise a `CheckpointError` where weights hold NaN or infinity, of which nothing sound can be computed."""
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path} holds NaN or infinity in {some_of(broken, 1)}: the training that wrote it diverged. Take an "
            "earlier checkpoint of it"
        )


def _numpy_scalars() -> list[Any]:
    core = getattr(np, "_core", None) or np.core
    types = [np.dtype, core.multiarray.scalar, *(type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8"))]
    # Files written by NumPy 1 name the module by its old path.
    return [*types, (core.multiarray.scalar, "numpy.core.multiarray.scalar")]
