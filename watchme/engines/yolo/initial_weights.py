"""Which architectures there are, and which file a YOLO run starts from. ultralytics is not imported for that."""

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from watchme.core.errors import CheckpointError
from watchme.engines.yolo.config import YoloModel
from watchme.io.cache import cache_dir

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


def initial_model(model: YoloModel) -> str:
    """Return what ultralytics is to build: a weights file, or an architecture's yaml to train from scratch.

    Args:
        model: `weights` is a file; a bare release name such as `yolo11n.pt`, also in the guide's spelling
            `yolov11n.pt`, is looked for in the working directory and in watchme's cache. Null trains from scratch,
            or takes the release of `name` with `pretrained=true`.

    Raises:
        CheckpointError: If the file is nowhere; it says where to put it. Nothing is downloaded.
    """
    weights = f"{model.name}.pt" if model.weights is None and model.pretrained else model.weights
    if weights is None or model.pretrained is False:
        name = canonical(model.name)
        return str(Path(name).expanduser()) if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    path = Path(weights).expanduser()
    release = canonical(path.name)
    candidates = [path, path.with_name(release), cache_dir() / "weights" / release]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate.resolve())
    raise CheckpointError(
        f"there is no {release} in {path.parent.resolve()} or {candidates[-1].parent}, and nothing is downloaded. "
        f"Fetch {release} from https://github.com/ultralytics/assets/releases and put it into one of the two, "
        f"or train from scratch with model.weights=null (and model.pretrained=null)."
    )


def canonical(name: str) -> str:
    """`yolov11n` is the guide's spelling of what ultralytics calls `yolo11n` (so are 12 and 26)."""
    return re.sub(r"^yolov(1[1-9]|2\d)", r"yolo\1", name)


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """Load a detector's weights file.

    Returns:
        The model (float32, with `.names`, `.yaml`, `.args`), and what else the file holds.

    Raises:
        CheckpointError: If the file is missing or damaged, or holds no detector of ultralytics.
    """
    from ultralytics.nn.tasks import load_checkpoint

    with loading(path):
        # An absolute path: ultralytics downloads anew what it knows by its bare name and cannot read.
        model, content = load_checkpoint(str(path.resolve()))
    check_task(path, getattr(model, "task", "detect"))
    return model, content


@contextlib.contextmanager
def loading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is loaded into a `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}")
    try:
        yield
    except Exception as error:  # whatever pickle and torch raise on foreign bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be loaded as a YOLO model: {reason}") from error


def check_task(path: Path, task: str) -> None:
    """Raise a `CheckpointError` if a weights file is of another task than detection."""
    if task != "detect":
        raise CheckpointError(f"{path} holds a model for the task {task}; watchme's YOLO engine has detectors only")
