"""The callbacks of one run, in order, and what a `Job` hands to its engine."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from watchme.config.schema import RunConfig
from watchme.core.interfaces import Callback, EpochEvent, Job, Result, Shown, StepEvent, Stop
from watchme.core.metric_names import measured_objective
from watchme.core.registry import load_model
from watchme.core.signals import raise_if_interrupted
from watchme.io.metrics_log import metrics_of, read_metrics
from watchme.report.callbacks import ModelCardWriter, ReportWriter
from watchme.run.early_stopping import EarlyStopping
from watchme.run.gpu_monitor import GpuMonitor
from watchme.run.run_dir import METRICS, RunFolder, folder_of
from watchme.tracking import jsonl, start_trackers, uses_wandb

log = logging.getLogger(__name__)


class Session:
    """The callbacks of a run, and the hooks that a `Job` gives to its engine.

    `open_folder` writes the folder's first files; it is called once, when nothing can be refused any more.
    """

    def __init__(self, config: RunConfig, record: RunFolder, open_folder: Callable[[], None] = lambda: None) -> None:
        self.config = config
        self.record = record
        self._open_folder = open_folder
        self.begun = False
        self.callbacks: list[Callback] = []
        self.stop: Stop | None = None
        self.first: dict[str, float] = {}
        self.gpus = GpuMonitor(config.train.device, getattr(config.train, "processes", None))

    def begin(self) -> None:
        """Open the run's folder and start its trackers, if that has not been done."""
        if self.begun:
            return
        self.begun = True
        self._open_folder()
        if self.config.checkpoint is not None:
            self._record_evaluated(Path(self.config.checkpoint).expanduser())
        self.start()
        if self.record.starts_again:
            if self.config.mode == "train":
                log.info("The run in this folder ended before its first checkpoint; it starts again")
            for callback in self.callbacks:
                callback.on_resume(-1)

    def _record_evaluated(self, weights: Path) -> None:
        """Record which weights a run evaluates or exports, and which run trained them."""
        trained_by = folder_of(weights)
        run = None if trained_by is None else str(trained_by.resolve())
        self.record.record("evaluates", {"weights": str(weights.resolve()), "run": run})

    def start(self) -> None:
        """Make the callbacks."""
        metrics = jsonl.JsonlTracker(self.record.path / METRICS)
        self.callbacks.append(metrics)
        if self.config.mode == "train":
            stopping = EarlyStopping(self.config.objective, self.config.train.patience)
            for line in read_metrics(metrics.path):
                name = measured_objective("train", self.config.objective, line)
                if name in line:
                    stopping.add(line["epoch"], line[name])
                if line["epoch"] == 0 and self.config.train.resume is not None:
                    self.first = metrics_of(line)
            self.callbacks.append(stopping)
        # The trackers hand over the model card; the report tells what became of the trackers.
        self.callbacks.append(ModelCardWriter(self.config, self.record))
        self.callbacks += start_trackers(self.config, self.record)
        self.callbacks.append(ReportWriter(self.config, self.record))
        if self.config.trial is not None and self.config.mode == "train":
            # It imports optuna, which a single run does without.
            from watchme.sweep.pruning_callback import PruningCallback

            self.callbacks.append(PruningCallback(self.config, self.record.path))

    def job(self) -> Job:
        """The run as its engine sees it."""
        tracker = self.config.tracker
        return Job(
            config=self.config,
            folder=self.record.path,
            begin=self.begin,
            emit=self.emit,
            resumed=self.resumed,
            step=self.step,
            step_every=tracker.every if tracker.tensorboard or uses_wandb(tracker) else 0,
            record=self.record.record,
            fallback=self.fallback,
            show=self.show,
            load_model=lambda engine, weights: load_model(
                engine, weights, self.config.train.device, trust=getattr(self.config.model, "trust", False)
            ),
        )

    def emit(self, event: EpochEvent) -> Stop | None:
        """Hand an epoch to the callbacks; return the first wish of one to stop."""
        raise_if_interrupted()
        self.begin()
        event = replace(event, timings={**self.gpus.take(), **event.timings})
        if event.epoch == 0:
            self.first = dict(event.metrics)
        for callback in self.callbacks:
            stop = callback.on_epoch(event)
            if stop is not None and self.stop is None:
                self.stop = stop
                self.record.record("stopped", {"epoch": event.epoch, "kind": stop.kind, "reason": stop.reason})
                log.info("Stopping after epoch %d: %s", event.epoch, stop.reason)
        return self.stop

    def resumed(self, epoch: int) -> None:
        """Let the callbacks drop what they know of epochs after `epoch`."""
        self.begin()
        for callback in self.callbacks:
            callback.on_resume(epoch)

    def step(self, event: StepEvent) -> None:
        """Hand a glance at an epoch to the callbacks."""
        raise_if_interrupted()
        for callback in self.callbacks:
            callback.on_step(event)

    def show(self, item: Shown) -> None:
        """Hand a picture, a table or an embedding to the callbacks."""
        self.begin()
        for callback in self.callbacks:
            callback.on_show(item)

    def fallback(self, message: str) -> None:
        """Announce and record that something other than what was asked for is done."""
        log.warning("Fallback: %s", message)
        self.record.fallback(message)

    def end(self, status: str, result: Result | None) -> None:
        """Notify the callbacks that the run has ended, then wait: trackers finish while the report is written."""
        for callback in self.callbacks:
            callback.on_end(status, result)
        for callback in self.callbacks:
            callback.wait()
