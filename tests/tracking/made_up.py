"""A made-up training: what an engine would tell its callbacks, without an engine."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from PIL import Image

from watchme.config.schema import (
    DatasetConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    SchedulerConfig,
    TrackerConfig,
    TrainConfig,
    TrialConfig,
)
from watchme.core.interfaces import EpochEvent, Picture, Result, StepEvent
from watchme.run.run_dir import RunFolder
from watchme.run.session import Session
from watchme.tracking.process import TrackingProcess

CURVE = [0.11, 0.42, 0.57, 0.53, math.nan]
BOXES = ((4.0, 6.0, 30.0, 50.0, 0.9, "person"), (20.0, 10.0, 60.0, 60.0, 0.4, "person"))


def make_config(**tracker: Any) -> RunConfig:
    """A config without an engine."""
    return RunConfig(
        objective="val/map50",
        model=ModelConfig(engine="none", name="made_up"),
        dataset=DatasetConfig(task="detection", name="nothing"),
        optimizer=OptimizerConfig(name="adamw", lr=0.001),
        scheduler=SchedulerConfig(name="cosine", warmup_epochs=1.0),
        augmentation=None,
        loss=None,
        evaluation=None,
        train=TrainConfig(engine="none", epochs=len(CURVE), workers=0, patience=0, seed=7),
        tracker=TrackerConfig(**tracker),
    )


def event(epoch: int, value: float) -> EpochEvent:
    """An epoch of the made-up training."""
    metrics = {"train/loss": 2.0 / epoch, "train/lr": 0.001 / epoch, "val/map50": value}
    return EpochEvent(epoch, len(CURVE), metrics, {"perf/images_per_s": 100.0 + epoch, "perf/data_wait_share": 0.1})


@dataclass
class Tracked:
    """A tracked run, gone through by the methods in turn."""

    folder: Path
    config: RunConfig
    session: Session
    record: RunFolder

    @classmethod
    def begin(cls, folder: Path, config: RunConfig, overrides: list[str] | None = None) -> "Tracked":
        record = RunFolder(folder, resume=config.train.resume is not None)
        session = Session(config, record, lambda: record.open(OmegaConf.structured(config), overrides or []))
        session.begin()
        record.record("dataset", {"fingerprint": "sha256:abc", "images": 96})
        return cls(folder, config, session, record)

    def picture(self, name: str, epoch: int | None = None, boxes: tuple[Any, ...] = BOXES) -> None:
        # One file for all epochs, as an engine may well do.
        path = self.folder / f"{name.replace('/', '_')}.jpg"
        shade = 40 * (epoch or 5)
        Image.new("RGB", (64, 64), (shade, shade, shade)).save(path)
        self.session.show(Picture(name, path, "a caption", boxes, epoch))

    def epochs(self, first: int = 1, end: int = len(CURVE), pictures: bool = True, saved: bool = True) -> None:
        """Epochs of 10 steps, of which every fifth is reported; `saved`: with a checkpoint of each, as engines do."""
        for epoch in range(first, end + 1):
            for step in (10 * epoch - 5, 10 * epoch):
                metrics = {"step/loss": 20 / step, "step/lr": 0.001, "step/images_per_s": 90.0}
                self.session.step(StepEvent(step, metrics))
            if pictures:
                for _ in range(3):
                    self.picture("val/predictions", epoch)
            if (last := self.folder / "weights" / "last.pt").is_file():
                os.utime(last, ns=(0, last.stat().st_mtime_ns - 10**9))  # an epoch takes longer than none
            self.session.emit(event(epoch, CURVE[epoch - 1]))
            if saved:
                self.save()

    def save(self) -> None:
        """Write the last checkpoint."""
        weights = self.folder / "weights"
        weights.mkdir(exist_ok=True)
        (weights / "last.pt").write_bytes(b"last" * 100)

    def result(self) -> Result:
        weights = self.folder / "weights"
        weights.mkdir(exist_ok=True)
        paths = {name: weights / f"{name}.pt" for name in ("best", "last")}
        for name, path in paths.items():
            path.write_bytes(name.encode() * 100)
        return Result({"val/map50": 0.57, "test/map50": 0.5}, 0.57, 3, len(CURVE), paths)

    def end(self, status: str, result: Result | None = None, error: BaseException | None = None) -> None:
        if result is not None:
            self.record.write_summary(self.config.objective, status, result)
        self.record.close(status, result, error)
        self.session.end(status, result)

    def lines(self) -> list[dict[str, Any]]:
        """metrics.jsonl, as written."""
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]


def tracking_of(run: Tracked) -> TrackingProcess:
    """The tracking process of a run."""
    (found,) = (item for item in run.session.callbacks if isinstance(item, TrackingProcess))
    return found


def make_trial(study_file: Path, study: str, number: int) -> TrialConfig:
    """Trial `number` of a study in a SQLite file, running, as a sweep hands it to a run."""
    url = f"sqlite:///{study_file}"
    opened = optuna.create_study(storage=url, study_name=study, direction="maximize", load_if_exists=True)
    while len(opened.get_trials(deepcopy=False)) <= number:
        opened.ask()
    trial_id = opened.get_trials(deepcopy=False)[number]._trial_id
    return TrialConfig(storage=url, study=study, number=number, trial_id=trial_id, parameters=["optimizer.lr"])
