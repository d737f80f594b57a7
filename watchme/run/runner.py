"""One run, wrapped: folder, manifest, callbacks, engine, result, and what the user reads at the end."""

import logging
import math
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from watchme.config.schema import RunConfig
from watchme.core.errors import WatchmeError
from watchme.core.interfaces import Callback, EpochEvent, Job, Picture, Result, Stop, Table
from watchme.core.metric_names import measured_objective
from watchme.core.registry import load_mode, load_model
from watchme.core.signals import sigterm_interrupts
from watchme.report.callbacks import ModelCardWriter, ReportWriter
from watchme.run import run_dir as rundir
from watchme.run import summary as console
from watchme.run.early_stopping import EarlyStopping
from watchme.run.gpu_monitor import GpuMonitor
from watchme.tracking import jsonl, start_trackers

log = logging.getLogger(__name__)


class Interrupted(WatchmeError):
    """The run was ended by Ctrl-C or SIGTERM; the message tells how to go on."""

    exit_code = 130


def run(config: RunConfig, composed: DictConfig, folder: Path, overrides: list[str]) -> Result:
    """Run one job in its folder.

    Args:
        config: The validated config.
        composed: The config that it was made from; its resolved form is written into the folder.
        folder: The run folder.
        overrides: The command line's overrides, for the manifest.

    Returns:
        The engine's result. `run.json`, `summary.json` and `metrics.jsonl` are written by then. A sweep's trial that
        its pruner ended returns too: its status is `pruned`, and the study's storage tells the sweeper.

    Raises:
        WatchmeError: What the user must act on; the folder's status is then `failed` and its traceback there.
        Refused: After a check or an export whose answer is no; the status is `refused`.
        Interrupted: After Ctrl-C or SIGTERM; the status is `interrupted`.
    """
    record = rundir.RunFolder(folder, resume=config.train.resume is not None)
    record.open(composed, overrides)
    session = _Session(config, record)
    # What libraries warn of goes to train.log, by the logger py.warnings.
    logging.captureWarnings(True)
    status = "failed"
    result: Result | None = None
    error: BaseException | None = None
    try:
        with sigterm_interrupts():
            # Trackers first: their process starts up while this one imports the engine's libraries.
            session.start()
            work = load_mode(config.model.engine, config.mode)
            record.record("hardware", rundir.hardware())
            with session.gpus:
                result = work(session.job())
            # By now every engine has imported what knows the GPUs.
            record.record("hardware", rundir.hardware())
        status = "pruned" if session.stop and session.stop.kind == "pruned" else "finished"
        if result.refused:
            status = "refused"
    except KeyboardInterrupt:
        status = "interrupted"
        raise Interrupted(console.how_to_resume(config, record.path)) from None
    except BaseException as exception:
        error = exception
        raise
    finally:
        if result is not None:
            objective = measured_objective(config.mode, config.objective, result.metrics)
            record.write_summary(objective, status, result)
        record.close(status, result, error)
        session.end(status, result)
        logging.captureWarnings(False)
    console.report(config, record.path, status, result, session.first)
    if result.refused:
        raise Refused(result.refused)
    return result


class Refused(WatchmeError):
    """The run did its work, and its answer is no: see `Result.refused`."""

    exit_code = 1


class _Session:
    """The callbacks of a run, and the hooks that a `Job` gives to its engine."""

    def __init__(self, config: RunConfig, record: rundir.RunFolder) -> None:
        self.config = config
        self.record = record
        self.callbacks: list[Callback] = []
        self.stop: Stop | None = None
        self.first: dict[str, float] = {}
        self.gpus = GpuMonitor(config.train.device)

    def start(self) -> None:
        metrics = jsonl.JsonlTracker(self.record.path / rundir.METRICS)
        self.callbacks.append(metrics)
        if self.config.mode == "train":
            stopping = EarlyStopping(self.config.objective, self.config.train.patience)
            for line in jsonl.read_metrics(metrics.path):
                stopping.see(line["epoch"], line.get(self.config.objective, math.nan))
            self.callbacks.append(stopping)
        # The trackers hand over the model card; the report tells what became of the trackers.
        self.callbacks.append(ModelCardWriter(self.config, self.record))
        self.callbacks += start_trackers(self.config, self.record)
        self.callbacks.append(ReportWriter(self.config, self.record))
        if self.config.trial is not None and self.config.mode == "train":
            from watchme.sweep.pruning_callback import (
                PruningCallback,  # it imports optuna, which a single run does without
            )

            self.callbacks.append(PruningCallback(self.config, self.record.path))

    def job(self) -> Job:
        return Job(
            config=self.config,
            folder=self.record.path,
            emit=self.emit,
            resumed=self.resumed,
            record=self.record.record,
            fallback=self.fallback,
            show=self.show,
            load_model=lambda engine, weights: load_model(engine, weights, self.config.train.device),
        )

    def emit(self, event: EpochEvent) -> Stop | None:
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
        for callback in self.callbacks:
            callback.on_resume(epoch)

    def show(self, item: Picture | Table) -> None:
        for callback in self.callbacks:
            callback.on_show(item)

    def fallback(self, message: str) -> None:
        log.warning("Fallback: %s", message)
        self.record.fallback(message)

    def end(self, status: str, result: Result | None) -> None:
        for callback in self.callbacks:
            callback.on_end(status, result)
