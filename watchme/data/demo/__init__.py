"""The demo world: drawn pedestrians seen by several cameras, as a detection, re-ID and person-search dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from watchme.data.demo.config import DemoWorldConfig
from watchme.io.cache import cache_dir, writable_cache_dir
from watchme.io.files import whole_folder

GENERATOR_VERSION = 5
"""Raise it with every change of what is drawn or written: worlds in the cache are then drawn again."""
_DONE = "world.json"

__all__ = ["DemoWorld", "DemoWorldConfig", "ensure_demo_world"]


@dataclass(frozen=True)
class DemoWorld:
    """A world on disk."""

    root: Path  # its folder
    detection: Path  # the YOLO dataset, with data.yaml
    reid: Path  # the Market-1501 dataset
    search: Path  # who is where in the detector's test frames, for person search (`annotations.json`)
    created: bool  # whether it was drawn by this call, and not found in the cache


def ensure_demo_world(config: DemoWorldConfig, cache: Path | None = None) -> DemoWorld:
    """Return the world of these parameters, drawn if it is not in the cache yet.

    The same parameters give the same bytes. A world appears in the cache whole or not at all, so that two processes
    may ask for it at once and one that is killed leaves nothing behind that would be taken for a world.

    Args:
        config: parameters of the world.
        cache: folder of worlds; by default watchme's cache folder.

    Raises:
        ValueError: if a parameter is out of range, naming each.
    """
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    parameters = {"version": GENERATOR_VERSION, **dataclasses.asdict(config)}
    key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]
    root = (cache or cache_dir()) / f"demo-{key}"
    created = not (root / _DONE).is_file()
    if created:
        if cache is None:
            writable_cache_dir()
        _draw(config, root, parameters)
    return DemoWorld(root, root / "detection", root / "reid", root / "search", created)


def _draw(config: DemoWorldConfig, root: Path, parameters: dict[str, object]) -> None:
    from watchme.data.demo.world import write_world  # NumPy and Pillow, which validation does without

    with whole_folder(root, _DONE) as temporary:
        write_world(config, temporary)
        (temporary / _DONE).write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")
