"""The command that shows both demo models at work, printed once a detector and a re-ID model are trained."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from watchme.config.schema import RunConfig
from watchme.core.formatting import relative
from watchme.io.run_lookup import MANIFEST, manifest_of

# Task of a demo dataset -> its key in mode=find, the task of its partner, and how that is trained.
_PARTS = {
    "detection": ("detector", "reid", "python train.py model=osnet_x0_25"),
    "reid": ("reid", "detection", "python train.py"),
}
# Manifests that are read at most, the newest first.
_MOST = 200


def demo_commands(config: RunConfig, folder: Path) -> list[str]:
    """What to run after a training on demo data: mode=find on the demo film, or the training that it still needs.

    Args:
        config: The run's config.
        folder: The run folder.
    """
    task = config.dataset.task
    is_demo = config.dataset.root is None and getattr(config.dataset, "demo", None) is not None
    if config.mode != "train" or task not in _PARTS or not is_demo:
        return []
    key, other, training = _PARTS[task]
    partner = _newest(other, folder, Path.cwd() / config.output_root)
    if partner is None:
        return [f"{training}  # with it, a person can be found in the demo film"]
    runs = {key: folder, _PARTS[other][0]: partner}
    given = " ".join(f"{name}={shlex.quote(relative(runs[name]))}" for name in ("detector", "reid"))
    return [f"python train.py mode=find query=demo source=demo {given}  # look for a person in the demo film"]


def _newest(task: str, folder: Path, root: Path) -> Path | None:
    """The newest finished training on the demo data of a task, beside a run or below the root of runs."""
    found = sorted({path.resolve() for path in _manifests(folder, root)}, key=lambda path: -path.stat().st_mtime)
    for path in found[:_MOST]:
        manifest = manifest_of(path.parent)
        trained = manifest.get("status") == "finished" and (path.parent / "weights" / "best.pt").is_file()
        if trained and (manifest.get("dataset") or {}).get("name") == f"demo_{task}":
            return path.parent
    return None


def _manifests(folder: Path, root: Path) -> Iterator[Path]:
    yield from folder.parent.glob(f"*/{MANIFEST}")
    for depth in ("*", "*/*"):
        yield from root.glob(f"{depth}/{MANIFEST}")
