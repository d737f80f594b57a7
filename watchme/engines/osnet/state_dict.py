"""The OSNet tensors of anybody's checkpoint: torchreid, fast-reid, boxmot, timm, Lightning, DDP, torch.compile."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from watchme.core.errors import CheckpointError

# Where trainers keep the tensors, in the order in which they are taken; an average (EMA) only where there is no other.
_KEYS: Final = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "weights",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
)
# What wrappers put before a name: DDP and averages, torch.compile, Lightning, fast-reid. OSNet has no such modules.
_PREFIXES: Final = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "encoder.")
_DEPTH = 3


def state_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint: plain or under a known key, without the prefixes of wrappers.

    Raises:
        CheckpointError: If it holds no tensors there.
    """
    tensors = tensors_of(content)
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name; expected a state dict or a checkpoint with one")
    return tensors


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """As `state_of`, but empty where there are none."""
    inner: Any = content
    for _ in range(_DEPTH):
        key = next((key for key in _KEYS if isinstance(inner.get(key), Mapping)), None)
        if key is None:
            break
        inner = inner[key]
    return {_bare(str(name)): value for name, value in inner.items() if isinstance(value, Tensor)}


def _bare(name: str) -> str:
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def best_place(content: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> tuple[str, str, float]:
    """Where in a checkpoint most of a model's tensors are, whatever the keys and prefixes are called.

    Returns:
        The dotted key ("" for the file itself), the prefix of the names there, and the share of `wanted` that matches
        in name and shape.
    """
    best = ("", "", 0.0)
    for key, tensors in _mappings(content, "", _DEPTH):
        for prefix in _prefixes(tensors):
            hits = sum(
                name in wanted and wanted[name].shape == value.shape
                for full, value in tensors.items()
                if full.startswith(prefix) and (name := full.removeprefix(prefix))
            )
            if hits > best[2] * len(wanted):
                best = (key, prefix, hits / len(wanted))
    return best


def _mappings(content: Mapping[str, Any], key: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield key, tensors
    for name, value in content.items():
        if isinstance(value, Mapping) and depth:
            yield from _mappings(value, f"{key}.{name}" if key else str(name), depth - 1)


def _prefixes(tensors: Mapping[str, Tensor]) -> set[str]:
    """Every dotted beginning of the names, three parts long at most."""
    parts = [name.split(".") for name in tensors]
    return {"".join(f"{part}." for part in name[:length]) for name in parts for length in range(min(4, len(name)))}
