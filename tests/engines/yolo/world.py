"""A small drawn dataset, and an engine's job that notes what it is given."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from watchme.config.schema import RunConfig
from watchme.core.interfaces import EpochEvent, Job, Picture, Result, Shown, StepEvent, Stop, Table
from watchme.engines.yolo.config import Config

SIDE = 64
FAULT = "CPU_DDP_FAULT"  # variable: what is to happen to rank 1 of cpu_ddp.py in its second epoch
COLOURS = {0: (220, 40, 40), 1: (40, 60, 220)}


def draw_dataset(
    root: Path, counts: dict[str, int], classes: tuple[str, ...] = ("person",), yaml: str | None = None, seed: int = 0
) -> Path:
    """Write upright boxes in the colour of their class on grey noise, in YOLO layout; every fourth image is empty.

    Args:
        root: Folder to write.
        counts: Split -> images.
        classes: Names; an image has one box of each.
        yaml: Text of data.yaml; None writes a plain one, "" none.
        seed: Draws everything.
    """
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(count):
            image = Image.fromarray(rng.integers(90, 140, (SIDE, SIDE, 3), dtype=np.uint8))
            pen, lines = ImageDraw.Draw(image), []
            for class_id in range(len(classes) if index % 4 else 0):
                w, h = float(rng.uniform(0.2, 0.3)), float(rng.uniform(0.4, 0.6))
                left = class_id / len(classes)
                x = float(rng.uniform(left + w / 2, left + 1 / len(classes) - w / 2))
                y = float(rng.uniform(h / 2, 1 - h / 2))
                corners = [(x - w / 2) * SIDE, (y - h / 2) * SIDE, (x + w / 2) * SIDE, (y + h / 2) * SIDE]
                pen.rectangle(corners, fill=COLOURS[class_id % 2])
                lines.append(f"{class_id} {x:.6f} {y:.6f} {w:.6f} {h:.6f}")
            image.save(images / f"{index:03d}.jpg", quality=95)
            if lines:
                (labels / f"{index:03d}.txt").write_text("\n".join(lines) + "\n")
    if yaml is None:
        yaml = "".join(f"{split}: images/{split}\n" for split in counts) + f"names: [{', '.join(classes)}]\n"
    if yaml:
        (root / "data.yaml").write_text(yaml)
    return root


@dataclass
class Recorder:
    """Notes what an engine reports; `job` is what the engine gets. `stop_after` ends training after that epoch."""

    folder: Path
    stop: Stop | None = None
    stop_after: int = 0
    break_before: int = -1  # epoch whose event raises KeyboardInterrupt, as Ctrl-C before it is saved
    events: list[EpochEvent] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    fallbacks: list[str] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    steps: list[StepEvent] = field(default_factory=list)

    def job(self, config: RunConfig) -> Job:
        return Job(
            config=config,
            folder=self.folder,
            emit=self.emit,
            resumed=self.resumed.append,
            record=self.manifest.__setitem__,
            fallback=self.fallbacks.append,
            show=self.shown.append,
            step=self.steps.append,
            step_every=1,
        )

    def emit(self, event: EpochEvent) -> Stop | None:
        if event.epoch == self.break_before:
            raise KeyboardInterrupt
        self.events.append(event)
        return self.stop if event.epoch == self.stop_after else None

    def metrics(self) -> list[dict[str, float]]:
        return [dict(event.metrics) for event in self.events]

    def pictures(self) -> dict[str, list[Picture]]:
        found: dict[str, list[Picture]] = {}
        for item in self.shown:
            if isinstance(item, Picture):
                found.setdefault(item.name, []).append(item)
        return found

    def tables(self) -> dict[str, Table]:
        return {item.name: item for item in self.shown if isinstance(item, Table)}


@dataclass
class Trained:
    """A training: its config, what it reported, its result."""

    config: Config
    recorder: Recorder
    result: Result

    @property
    def folder(self) -> Path:
        return self.recorder.folder


def train(config: Config, recorder: Recorder) -> Trained:
    """Train in the recorder's folder."""
    from watchme.engines.yolo.train import train

    recorder.folder.mkdir(parents=True, exist_ok=True)
    return Trained(config, recorder, train(recorder.job(config)))
