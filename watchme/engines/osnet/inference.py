"""A trained OSNet as an embedder of person crops for other engines' modes, e.g. person search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from watchme.core.device import choose_device, use_device
from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Embedder
from watchme.engines.osnet import onnx_inference
from watchme.engines.osnet.config import ARCHITECTURES
from watchme.engines.osnet.data.augmentation import to_network
from watchme.engines.osnet.data.crop_images import padded_batch
from watchme.engines.osnet.data.device_batches import uses_channels_last
from watchme.engines.osnet.model import CLASSIFIER, ReidNet
from watchme.engines.osnet.state_dict import state_of
from watchme.io.checkpoint import load_checkpoint, require_finite
from watchme.io.run_lookup import config_of

# The backend's input, and that of torchreid's model zoo.
_HEIGHT, _WIDTH = 256, 128


def load(path: Path, device: str | int | list[int], *, trust: bool = False) -> Embedder:
    """Load a re-ID model.

    Args:
        path: A checkpoint of watchme or torchreid, or an exported ONNX file, see `onnx_inference.load`. In a run
            folder, architecture, size of the crops, normalisation and flip test are that run's; elsewhere the
            architecture is recognised by the tensors, and crops are 256x128 and normalised by ImageNet's mean and
            standard deviation.
        device: As `train.device`.
        trust: Not needed: an OSNet's file holds tensors and plain values only.

    Raises:
        CheckpointError: If it is not an OSNet, or of another architecture than its run's.
        ConfigError: If the machine does not have the device.
    """
    path, chosen = path.expanduser(), choose_device(device)
    if path.suffix == ".onnx":
        return onnx_inference.load(path, chosen)
    config = config_of(path)
    state = {name: value for name, value in state_of(load_checkpoint(path), path).items() if not _dropped(name)}
    require_finite(path, state)
    if config is None:
        name, height, width, normalize, flip = architecture_of(state, path), _HEIGHT, _WIDTH, True, False
        assumed: tuple[str, ...] = (
            f"{path} is in no run folder: its tensors are those of {name}; crops of {height}x{width}, normalised by "
            f"ImageNet's mean and standard deviation, are assumed",
        )
    else:
        name, assumed = str(config["model"]["name"]), ()
        height, width = int(config["dataset"]["height"]), int(config["dataset"]["width"])
        normalize = bool(config["augmentation"]["normalize"])
        flip = bool(config["evaluation"]["flip_test"])
        if _shapes(state) != _shapes_of(name):
            raise CheckpointError(f"{path} does not hold the {name} of its run's config")
    model = ReidNet(name, 1)
    own: dict[str, Any] = model.backbone.state_dict()
    kept = {key: value for key, value in own.items() if _dropped(key) or key.endswith("num_batches_tracked")}
    model.backbone.load_state_dict({**kept, **state})
    _fold_batch_norms(model.eval())
    use_device(chosen, tf32=False)
    layout = torch.channels_last if uses_channels_last(True, chosen) else torch.contiguous_format
    return OsnetEmbedder(model.to(chosen).to(memory_format=layout), (height, width), assumed, normalize, flip)


@dataclass
class OsnetEmbedder:
    """Embeds crops as the engine's evaluation does, and divides by the L2 norm.

    On embeddings of unit length, cosine and Euclidean distance give the same ranking, so the run's choice does not
    matter; nor does its BNNeck, which comes after the embedding.
    """

    model: ReidNet  # in evaluation mode
    size: tuple[int, int]  # (height, width) that the network sees
    assumed: tuple[str, ...]  # see `interfaces.Embedder`
    normalize: bool  # whether images are normalised by ImageNet's mean and deviation
    flip: bool  # whether to average the embeddings of an image and its mirror image

    @torch.no_grad()
    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed crops. See `interfaces.Embedder`."""
        if not crops:
            return np.zeros((0, self.model.feature_dim), np.float32)
        device = next(self.model.parameters()).device
        images = torch.from_numpy(padded_batch(crops, self.size)).to(device)
        pixels = to_network(images, normalize=self.normalize)
        features = self.model.embed_in_parts(pixels)
        if self.flip:
            features = (features + self.model.embed_in_parts(pixels.flip(3))) / 2
        kept = features[: len(crops)].float()
        unit: NDArray[np.float32] = torch.nn.functional.normalize(kept, dim=1).cpu().numpy()
        return unit


def architecture_of(state: Mapping[str, Tensor], path: Path) -> str:
    """The OSNet that has tensors of exactly these names and shapes, apart from the classifier.

    Raises:
        CheckpointError: If none has.
    """
    shapes = _shapes(state)
    for name in ARCHITECTURES:
        if _shapes_of(name) == shapes:
            return name
    some = ", ".join(list(shapes)[:3])
    raise CheckpointError(
        f"{path} is not an OSNet: its {len(shapes)} tensors ({some}, ...) are not those of {', '.join(ARCHITECTURES)}"
    )


def _fold_batch_norms(model: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, as evaluation allows: a pass over the data less."""
    for block in model.modules():
        conv, norm = ("conv2" if hasattr(block, "conv2") else "conv"), getattr(block, "bn", None)
        if isinstance(norm, nn.BatchNorm2d) and isinstance(getattr(block, conv, None), nn.Conv2d):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), norm))
            block.bn = nn.Identity()


def _dropped(name: str) -> bool:
    return name.startswith(CLASSIFIER)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    # torchreid's files of old torch versions lack num_batches_tracked.
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    own: dict[str, Any] = ReidNet(name, 1).backbone.state_dict()
    return _shapes({key: value for key, value in own.items() if not _dropped(key)})
