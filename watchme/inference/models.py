"""The engine's model behind weights of a detector or a re-ID model, from a run folder or elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Detector, Embedder
from watchme.io.run_lookup import config_of

Kind = Literal["detector", "re-ID model"]
_METHODS: dict[Kind, str] = {"detector": "detect", "re-ID model": "embed"}
# Of weights that are not in a run folder.
_ENGINES: dict[Kind, str] = {"detector": "yolo", "re-ID model": "osnet"}


def load_kind(
    kind: Kind, weights: Path, load: Callable[[str, Path], Detector | Embedder], named: str
) -> Detector | Embedder:
    """Load weights by the engine of their run, or by the usual one of their kind where they are in none.

    Args:
        kind: What they must be.
        weights: The file.
        load: Engine and file to the model, as `Job.load_model`.
        named: What messages call the file.

    Raises:
        CheckpointError: If they are of an engine without such models; and what `load` raises.
    """
    config = config_of(weights)
    engine = _ENGINES[kind] if config is None else str(config["model"]["engine"])
    try:
        model = load(engine, weights)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.endswith(f"{engine}.inference"):
            raise
        raise CheckpointError(f"{named} is of the {engine} engine, which offers no models") from None
    if not hasattr(model, _METHODS[kind]):
        raise CheckpointError(f"{named} is of the {engine} engine, which is no {kind}")
    return model
