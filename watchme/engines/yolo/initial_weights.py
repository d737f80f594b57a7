"""Which architectures there are, and which file a YOLO run starts from. ultralytics is not imported for that."""

import contextlib
import importlib.util
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from watchme.core.errors import CheckpointError
from watchme.engines.yolo.config import YoloModel
from watchme.io.file_kind import kind_of
from watchme.weights.initial import InitialWeights, find_initial
from watchme.weights.model_zoo import canonical

_NO_DETECTOR = re.compile(r"-(seg|cls|pose|obb|depth|sem|world|worldv2|rtdetr)\b|^(rtdetr|yoloe)|-resnet")
_SCALES = "nsmlx"


@cache
def architectures() -> frozenset[str]:
    """Detectors of the installed ultralytics, as the stems of its model files: yolo11, yolov8-p6, yolov9c, ..."""
    found = importlib.util.find_spec("ultralytics")
    places = list(found.submodule_search_locations or []) if found else []
    files = [path for place in places for path in Path(place, "cfg", "models").glob("*/*.yaml")]
    return frozenset(path.stem for path in files if not _NO_DETECTOR.search(path.stem))


def is_architecture(name: str) -> bool:
    """Whether `name` is a model file of one's own, or an architecture of ultralytics with or without its scale."""
    if name.endswith((".yaml", ".yml")) and Path(name).expanduser().is_file():
        return True
    stem = canonical(name.removesuffix(".yaml"))
    return stem in architectures() or re.sub(rf"(\d+)[{_SCALES}](-.+)?$", r"\1\2", stem) in architectures()


def known_names() -> list[str]:
    """Names to suggest: each architecture with each scale."""
    return sorted(
        name + scale if name[-1:].isdigit() else name
        for name in architectures()
        for scale in (_SCALES if name[-1:].isdigit() else "n")
    )


def initial_weights(model: YoloModel) -> InitialWeights | None:
    """What a run starts from; None for random weights. Raises a `CheckpointError` if there are no such weights."""
    found = find_initial(model.weights, model.pretrained, "yolo", model.name)
    # ultralytics takes a file of another name for the description of an architecture.
    if found is not None and found.file is not None and found.file.suffix != ".pt":
        raise CheckpointError("expected a .pt file of ultralytics")
    return found


def initial_model(model: YoloModel) -> str:
    """Return what ultralytics is to build: a weights file, which is fetched, or an architecture's yaml.

    Raises:
        CheckpointError: If there are no such weights, or they cannot be fetched.
    """
    if (found := initial_weights(model)) is not None:
        return str(found.fetch())
    name = canonical(model.name)
    return str(Path(name).expanduser()) if name.endswith((".yaml", ".yml")) else f"{name}.yaml"


def architecture_of(path: Path) -> str | None:
    """The architecture that a .pt file names, read without torch and without unpickling; None where it names none."""
    import pickletools  # not at every start

    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        memo: dict[Any, Any] = {}
        key = value = None
        for code, argument, _ in pickletools.genops(data):
            if "PUT" in code.name:
                memo[argument] = value
                continue
            key, value = value, memo.get(argument) if "GET" in code.name else argument
            if key == "yaml_file" and isinstance(value, str):
                return canonical(Path(value).stem)
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile):
        pass  # loading it says what is wrong with it
    return None


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """Load a detector's weights file.

    Returns:
        The model (float32, with `.names`, `.yaml`, `.args`), and what else the file holds.

    Raises:
        CheckpointError: If the file is missing or damaged, or holds no detector of ultralytics.
    """
    from ultralytics.nn.tasks import load_checkpoint

    with loading(path):
        # An absolute path: ultralytics downloads a release again that it cannot read by its bare name.
        model, content = load_checkpoint(str(path.resolve()))
    check_model(path, getattr(model, "task", "detect"), model)
    return model, content


@contextlib.contextmanager
def loading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is loaded into a `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}")
    try:
        yield
    except Exception as error:  # whatever pickle and torch raise on foreign bytes
        kind = kind_of(path)
        if (refused := _refused_name(error)) and not kind:
            raise CheckpointError(
                f"{path} needs {refused}, which is neither of ultralytics nor of torch: loading it would run code of "
                "the file's author. Where you trust them and the name can be imported, model.trust=true allows it."
            ) from error
        reason = str(error).splitlines()[0].removeprefix("ERROR ❌️ ") if str(error) else type(error).__name__
        if kind:
            reason = f"it is {kind}"
        raise CheckpointError(f"{path} cannot be loaded as a YOLO model: {reason}") from error


def _refused_name(error: BaseException) -> str | None:
    """The class or function that torch's restricted loading did not allow, in the error or one of its causes."""
    cause: BaseException | None = error
    while cause is not None:
        if found := re.search(r"(?:Unsupported (?:global|class).*?|GLOBAL )([\w.]+\.[\w.]+)", str(cause)):
            return found[1]
        cause = cause.__cause__ or cause.__context__
    return None


def check_model(path: Path, task: str, model: Any) -> None:
    """Raise a `CheckpointError` if the `torch.nn.Module` of a weights file is no detector, or is not finite."""
    if task != "detect":
        raise CheckpointError(f"{path} holds a model for the task {task}; watchme's YOLO engine has detectors only")
    from watchme.io.checkpoint import require_finite  # imports torch

    require_finite(path, model.state_dict())
