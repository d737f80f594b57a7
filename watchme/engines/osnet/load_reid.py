"""Loads model.pth.tar including its embedding layer `fc`. Shipped beside it; needs only torch and torchreid.

from load_reid import load_reid, restore_embedding
model = load_reid("model.pth.tar")              # the complete model, in evaluation mode
restore_embedding(model, "model.pth.tar")       # or, after a loader that drops fc.*: restores them
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

try:
    from torchreid.reid.models import build_model  # torchreid 0.2.5 of the package index
except ImportError:
    from torchreid.models import build_model  # deep-person-reid from its repository


def load_reid(path: str | Path, device: str = "cpu") -> nn.Module:
    """Build the model in a model.pth.tar of watchme and load its weights.

    Returns:
        torchreid's model in evaluation mode: (B, 3, 256, 128) normalised images to (B, D) embeddings.

    Raises:
        RuntimeError: If a tensor is missing, unknown or of another shape.
    """
    checkpoint = _read(path)
    model: nn.Module = build_model(checkpoint["arch"], checkpoint["num_classes"], loss="triplet", pretrained=False)
    model.load_state_dict(checkpoint["state_dict"])
    return model.to(device).eval()


def restore_embedding(model: nn.Module, path: str | Path) -> None:
    """Restore the trained embedding layer of torchreid's OSNet, which its loader dropped, from the same file.

    Raises:
        RuntimeError: If the layer is not in the file, or of another shape.
    """
    state = _read(path)["state_dict"]
    layer: Any = model.fc
    layer.load_state_dict({name.removeprefix("fc."): value for name, value in state.items() if name.startswith("fc.")})


def _read(path: str | Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint
