"""The demo world: drawn pedestrians seen by several cameras, as datasets of each task and as a film."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchme.config.demo_world import DemoFilmConfig, DemoWorldConfig
from watchme.io.cache import cache_dir, writable_cache_dir
from watchme.io.files import read_json, whole_folder

GENERATOR_VERSION = 5
"""Raise it with every change of what is drawn or written: worlds in the cache are then drawn again."""
FILM_VERSION = 1
"""Raise it with every change of the film alone."""
_DONE, _FILM_DONE = "world.json", "film.json"

log = logging.getLogger(__name__)

__all__ = ["DemoFilm", "DemoFilmConfig", "DemoWorld", "DemoWorldConfig", "ensure_demo_film", "ensure_demo_world"]


@dataclass(frozen=True)
class DemoWorld:
    """A world on disk."""

    root: Path  # its folder
    detection: Path  # the YOLO dataset, with data.yaml
    reid: Path  # the Market-1501 dataset
    search: Path  # who is where in the detector's test frames, for person search (`annotations.json`)
    created: bool  # whether it was drawn by this call, and not found in the cache


def ensure_demo_world(config: DemoWorldConfig, cache: Path | None = None) -> DemoWorld:
    """Return the world of these parameters, drawn if it is not in the cache yet (by default watchme's cache folder).

    The same parameters give the same bytes. A world appears in the cache whole or not at all, so that two processes may
    ask for it at once and one that is killed leaves nothing behind that would be taken for a world.

    Raises:
        ValueError: if a parameter is out of range, naming each.
    """
    if problems := config.problems():
        raise ValueError("; ".join(problems))

    def draw(folder: Path) -> None:
        from watchme.data.demo.world import write_world  # NumPy and Pillow, which validation does without

        write_world(config, folder)

    parameters = {"version": GENERATOR_VERSION, **dataclasses.asdict(config)}
    root, created = _ensure("demo", parameters, _DONE, draw, cache)
    return DemoWorld(root, root / "detection", root / "reid", root / "search", created)


@dataclass(frozen=True)
class DemoFilm:
    """A film on disk: a street under one camera after the other, and everybody who walks there."""

    root: Path  # its folder; `scenes.json` there says which camera shows which frames
    video: Path  # the MP4 file
    truth: Path  # who is where in each frame, in MOTChallenge's format (`gt.txt`), visibility last
    # A picture of each person, in the order of their numbers, by a camera that the film does not show
    portraits: tuple[Path, ...]
    created: bool  # whether it was drawn by this call


def ensure_demo_film(config: DemoFilmConfig | None = None, cache: Path | None = None) -> DemoFilm:
    """Return the film of these parameters, drawn if it is not in the cache yet, whole or not at all.

    Args:
        config: parameters of the film; None: the defaults.
        cache: folder that it is kept in; by default watchme's cache folder.

    Raises:
        OSError: if OpenCV cannot write MPEG-4.
    """
    chosen = config or DemoFilmConfig()

    def draw(folder: Path) -> None:
        from watchme.data.demo.film import write_film

        write_film(chosen, folder)

    parameters = {"version": FILM_VERSION, "drawing": GENERATOR_VERSION, **dataclasses.asdict(chosen)}
    root, created = _ensure("demo-film", parameters, _FILM_DONE, draw, cache)
    portraits = tuple(root / "people" / f"person{pid:02d}.jpg" for pid in range(1, chosen.people + 1))
    return DemoFilm(root, root / "street.mp4", root / "gt.txt", portraits, created)


def _ensure(
    name: str, parameters: dict[str, object], last: str, draw: Callable[[Path], None], cache: Path | None
) -> tuple[Path, bool]:
    """The folder of what these parameters give, and whether `draw` has filled it now; the file `last` is its seal."""
    key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]
    root = (cache or cache_dir()) / f"{name}-{key}"
    if _files(root) < read_json(root / last).get("files", 0):  # an older one has no count
        log.info("%s has lost files", root)
        (root / last).unlink()
    created = not (root / last).is_file()
    if created:
        log.info("Drawing the %s into %s", "demo world" if name == "demo" else "demo film", root)
        if cache is None:
            writable_cache_dir()
        with whole_folder(root, last) as temporary:
            draw(temporary)
            seal = {**parameters, "files": _files(temporary) + 1}
            (temporary / last).write_text(json.dumps(seal, indent=2) + "\n", encoding="utf-8")
    return root, created


def _files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))
