"""An exported OSNet, an ONNX file, as an embedder of person crops."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError
from watchme.engines.osnet.data.augmentation import to_network
from watchme.engines.osnet.data.crop_images import padded_batch
from watchme.export import onnx_files
from watchme.metrics.verification import unit_rows

_PREPROCESSING = "preprocessing.json"


def load(path: Path, device: torch.device) -> "OnnxEmbedder":
    """Load a file that mode=export wrote, or any with such an input and output.

    It runs on a GPU where onnxruntime is built for it; where not, on the CPU, which `assumed` says.

    The size of the crops is that of its input. Whether they are normalised stands in the preprocessing.json that
    mode=export puts beside it; by ImageNet's mean and deviation where there is none.

    Raises:
        CheckpointError: If it is no ONNX file of a re-ID model.
    """
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}")
    try:
        session = onnx_files.session(path, 0, onnx_files.gpu_of(str(device)))
    except Exception as error:  # onnxruntime's own types, one a fault
        raise CheckpointError(f"{path} cannot be read as an ONNX file: {str(error).splitlines()[0]}") from error
    inputs, outputs = session.shapes()
    if len(inputs) != 4 or inputs[1] != 3 or len(outputs) != 2 or not all(isinstance(n, int) for n in inputs[1:]):
        raise CheckpointError(
            f"{path} is no re-ID model: expected an input (batch, 3, height, width) and an output (batch, dimensions), "
            f"found {inputs} and {outputs}"
        )
    size = int(inputs[2]), int(inputs[3])
    beside = path.parent / _PREPROCESSING
    assumed = [] if session.on_gpu else [onnx_files.on_cpu(path, str(device))]
    if beside.is_file():
        steps: list[dict[str, Any]] = json.loads(beside.read_text(encoding="utf-8")).get("steps", [])
        normalize = any("subtract" in step for step in steps)
    else:
        normalize = True
        assumed.append(f"{path} has no {_PREPROCESSING} beside it: crops normalised by ImageNet's values are assumed")
    return OnnxEmbedder(session, size, int(outputs[1]), tuple(filter(None, assumed)), normalize)


@dataclass
class OnnxEmbedder:
    """Embeds crops by onnxruntime. See `interfaces.Embedder`."""

    session: onnx_files.Session  # the loaded file
    size: tuple[int, int]  # (height, width) of its input
    dimensions: int  # of an embedding
    assumed: tuple[str, ...]  # see `interfaces.Embedder`
    normalize: bool  # whether images are normalised by ImageNet's mean and deviation

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed crops. See `interfaces.Embedder`."""
        if not crops:
            return np.zeros((0, self.dimensions), np.float32)
        images = torch.from_numpy(padded_batch(crops, self.size))
        pixels = to_network(images, normalize=self.normalize).contiguous().numpy()
        return unit_rows(self.session(pixels)[: len(crops)])
