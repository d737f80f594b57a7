"""A trained OSNet as model.pth.tar, TorchScript and ONNX; each has the inputs and outputs of torchreid's model."""

import contextlib
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from watchme.core.errors import CheckpointError, ExportError
from watchme.engines.osnet.inference import architecture_of
from watchme.engines.osnet.model import CLASSIFIER, ReidNet
from watchme.engines.osnet.state_dict import state_of
from watchme.export.base import Reader, torch_reader
from watchme.io.checkpoint import load_checkpoint, require_finite, save_checkpoint

INPUT, OUTPUT = "images", "embeddings"
# Has all operations that OSNet needs, and can be quantised.
_OPSET = 17


@dataclass(frozen=True)
class Trained:
    """The model that is exported."""

    net: ReidNet  # in evaluation mode, on the CPU
    name: str  # architecture in torchreid's spelling
    classes: int  # outputs of its classifier
    epoch: int | None  # epoch of the weights; None where the file does not say
    neck: bool  # whether it was trained with a BNNeck, which is not exported
    classified: bool  # whether the file holds the classifier; else it is replaced by an untrained one


def load_trained(path: Path, name: str) -> Trained:
    """Load every tensor of a checkpoint of watchme or torchreid, which must hold the architecture `name`.

    Raises:
        CheckpointError: If it cannot be read, is not an OSNet or one of another architecture, or holds NaN.
    """
    _refuse_yolo(path)
    content = load_checkpoint(path)
    state = state_of(content, path)
    body = {key: value for key, value in state.items() if not key.startswith(CLASSIFIER)}
    found = architecture_of(body, path)
    if found != name:
        raise CheckpointError(f"{path} holds {found}, but model.name is {name}; set model.name={found}")
    require_finite(path, state)
    classifier = state.get(f"{CLASSIFIER}weight")
    classes = 1 if classifier is None else len(classifier)
    net = ReidNet(name, classes)
    # A file without a classifier gets that of the new network, and one of an old torch its counters.
    lacking = () if classifier is not None else (CLASSIFIER,)
    own = {
        key: value
        for key, value in net.backbone.state_dict().items()
        if key.endswith("num_batches_tracked") or key.startswith(lacking)
    }
    try:
        net.backbone.load_state_dict({**own, **state})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {name}: {str(error).splitlines()[-1].strip()}") from None
    epoch = content.get("epoch")
    return Trained(
        net.float().eval(),
        name,
        classes,
        epoch if isinstance(epoch, int) else None,
        content.get("neck") is not None,
        classifier is not None,
    )


def write_checkpoint(trained: Trained, path: Path) -> None:
    """Write the backend's model.pth.tar: `state_dict` in torchreid's names, beside what it takes to build the model."""
    state = {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in trained.net.backbone.state_dict().items()
    }
    content: dict[str, Any] = {"state_dict": state, "arch": trained.name, "num_classes": trained.classes}
    if trained.epoch is not None:
        content["epoch"] = trained.epoch
    save_checkpoint(path, content)


def write_torchscript(trained: Trained, path: Path, size: tuple[int, int]) -> None:
    """Write a trace for batches of any size, of images of one size (height, width).

    Raises:
        ExportError: If torch cannot trace it.
    """
    with _explained("torchscript"):
        traced: Any = torch.jit.trace(trained.net.backbone, torch.zeros(2, 3, *size))  # type: ignore[no-untyped-call]
        traced.save(str(path))


def write_onnx(trained: Trained, path: Path, size: tuple[int, int]) -> None:
    """Write an ONNX file from `images` to `embeddings` for batches of any size, of images of one size (height, width).

    torch's TorchScript-based exporter is used, as in ultralytics: it needs no further package.

    Raises:
        ExportError: If torch cannot export it.
    """
    with _explained("onnx"):
        torch.onnx.export(
            trained.net.backbone,
            (torch.zeros(2, 3, *size),),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )


def read_checkpoint(path: Path, trained: Trained) -> Reader:
    """Load a model.pth.tar into torchreid's model, key for key."""
    net = ReidNet(trained.name, trained.classes).backbone
    net.load_state_dict(load_checkpoint(path)["state_dict"])
    return torch_reader(net.eval())


def read_torchscript(path: Path) -> Reader:
    """Load a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return torch_reader(module.eval())


def new_embedding_layer(trained: Trained, seed: int) -> nn.Module:
    """The layer `fc` as torchreid initialises it, which is what a loader that drops its tensors leaves."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer: nn.Module = ReidNet(trained.name, 1).backbone.fc
    return layer.eval()


def _refuse_yolo(path: Path) -> None:
    """Name the most common mistake: a detector's weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            listed = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            foreign = listed is not None and b"ultralytics" in archive.read(listed)
    except (OSError, zipfile.BadZipFile):
        return  # load_checkpoint reports what is wrong
    if foreign:
        raise CheckpointError(
            f"{path} holds a YOLO model of ultralytics, not an OSNet; choose model=yolo11n or another detector"
        )


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn an exporter's exception into an `ExportError`, and mute its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # exporters raise many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(
            f"export.formats: torch cannot write {name}: {reason}\n    Leave it out: export.formats=[...]"
        ) from error
