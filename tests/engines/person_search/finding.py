"""Runs of mode=find over a drawn film, by models that know the answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inference.drawn import COLOURS, Knowing, Sighted, film
from watchme.config.schema import RunConfig
from watchme.core.interfaces import Job, Result
from watchme.engines.person_search.find import find
from watchme.inference.match_results import Found, read_found
from watchme.metrics.verification import Similarities, count_similarities

Typed = Callable[..., RunConfig]
RED = 0


class Told:
    """One run of mode=find, and what it told."""

    def __init__(self, config: RunConfig, folder: Path, detector: Any, embedder: Any) -> None:
        self.fallbacks: list[str] = []
        self.begun = 0
        models = {"yolo": detector, "osnet": embedder}

        def begin() -> None:
            self.begun += 1

        job = Job(
            config,
            folder,
            fallback=self.fallbacks.append,
            begin=begin,
            load_model=lambda engine, weights: models[engine],
        )
        self.result: Result = find(job)
        self.found: Found = read_found(folder)


class Run:
    """`run(*overrides)`: looks for the red person in the drawn film."""

    def __init__(self, root: Path, typed: Typed) -> None:
        self.root = root
        self.typed = typed
        self.source = film(root / "street.mp4", frames=40)
        self.query = root / "query.png"
        block(self.query, COLOURS[RED])
        for name in ("detector.pt", "reid.pt"):
            (root / name).write_text(name)
        self.runs = 0

    def __call__(self, *overrides: str, detector: Any = None, embedder: Any = None) -> Told:
        given = {"query": self.query, "source": self.source}
        given |= {"detector": self.root / "detector.pt", "reid": self.root / "reid.pt"}
        texts = [
            f"{key}={value}" for key, value in given.items() if not any(o.startswith(f"{key}=") for o in overrides)
        ]
        config = self.typed("mode=find", "model=predict", *texts, *overrides)
        self.runs += 1
        return Told(config, self.root / f"run{self.runs}", detector or Sighted(), embedder or Knowing())


def block(path: Path, *colours: tuple[int, int, int]) -> None:
    """A picture of people side by side, the second one larger."""
    pixels = np.full((100, 50 * len(colours), 3), 110, np.uint8)
    for place, colour in enumerate(colours):
        tall = 48 if place == 0 else 70
        pixels[20 : 20 + tall, 50 * place + 10 : 50 * place + 34] = colour
    Image.fromarray(pixels).save(path)


def calibration(path: Path, low: float = -0.5, high: float = 0.3) -> Path:
    values = np.linspace(low, high, 1000)
    content = Similarities(count_similarities(values + 0.6), count_similarities(values), "val", 9).as_json()
    path.write_text(json.dumps({**content, "means": content}))
    return path
