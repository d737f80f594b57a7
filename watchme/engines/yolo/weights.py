"""Which file a YOLO run starts from."""

import re
from pathlib import Path

from watchme.cache import cache_dir
from watchme.errors import CheckpointError


def initial_model(name: str, weights: str | None) -> str:
    """Return what ultralytics is to build: a weights file, or an architecture's yaml to train from scratch.

    Args:
        name: Architecture, e.g. `yolo11n`, or the path of a model yaml.
        weights: A weights file; a bare release name such as `yolo11n.pt`, also in the guide's spelling `yolov11n.pt`,
            is looked for in the working directory and in watchme's cache. None trains from scratch.

    Raises:
        CheckpointError: If the file is nowhere; it says where to put it. Nothing is downloaded.
    """
    if weights is None:
        return name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    path = Path(weights).expanduser()
    release = canonical(path.name)
    candidates = [path, path.with_name(release), cache_dir() / "weights" / release]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate.resolve())
    raise CheckpointError(
        f"model.weights={weights}: there is no {release} in {path.parent.resolve()} or {candidates[-1].parent},\n"
        f"    and nothing is downloaded. Fetch {release} from the ultralytics assets releases and put it into one of\n"
        f"    the two, or train from scratch with model.weights=null."
    )


def canonical(name: str) -> str:
    """`yolov11n.pt` is the guide's spelling of what ultralytics calls `yolo11n.pt` (so are 12 and 26)."""
    return re.sub(r"^yolov(1[1-9]|2\d)", r"yolo\1", name)
