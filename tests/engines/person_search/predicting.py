"""Runs of mode=predict by models that know the answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.drawn import Knowing, Sighted
from watchme.config.schema import RunConfig
from watchme.core.interfaces import Job, Result
from watchme.engines.person_search.predict import predict

Typed = Callable[..., RunConfig]


class Told:
    """What a mode tells of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown: list[Any] = []
        self.manifest: dict[str, Any] = {}
        self.fallbacks: list[str] = []
        self.result = Result({}, 0.0)


class Run:
    """`run(source, *overrides)`: mode=predict with a re-ID model, in `<root>/run`."""

    def __init__(self, root: Path, typed: Typed) -> None:
        self.root = root
        self.typed = typed
        for name in ("detector.pt", "reid.pt"):
            (root / name).touch()

    def __call__(
        self, source: Path | str, *overrides: str, detector: Any = None, reid: bool = True, folder: str = "run"
    ) -> Told:
        models = (f"detector={self.root / 'detector.pt'}", *((f"reid={self.root / 'reid.pt'}",) if reid else ()))
        config = self.typed("model=predict", "mode=predict", f"source={source}", *models, *overrides)
        told = Told(self.root / folder)
        told.folder.mkdir(exist_ok=True)
        made: dict[str, Any] = {"yolo": detector or Sighted(), "osnet": Knowing()}
        job = Job(
            config,
            told.folder,
            record=told.manifest.__setitem__,
            fallback=told.fallbacks.append,
            show=told.shown.append,
            load_model=lambda engine, weights: made[engine],
        )
        told.result = predict(job)
        return told


def lines(folder: Path) -> list[dict[str, Any]]:
    """predictions.jsonl."""
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
