"""mode=train of a YOLO detector: prepare data and weights, train with ultralytics, evaluate the best weights."""

import contextlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from watchme.core.errors import ConfigError, Problem
from watchme.core.formatting import time_left
from watchme.core.interfaces import EpochEvent, Job, Result, Stop
from watchme.core.process_state import torch_threads
from watchme.core.step_meter import StepMeter
from watchme.engines.yolo import arguments, isolation, resume
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.checked_copy import Scan
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.config_rules import required_splits
from watchme.engines.yolo.distributed import serve
from watchme.engines.yolo.preparation import announce_workers, choose_device, prepare

log = logging.getLogger(__name__)


def train(job: Job) -> Result:
    """Train, then evaluate the best weights on val, and on test where there is one."""
    isolation.isolate()
    config = cast(Config, job.config)
    isolation.allow_code_in_files(config.model.trust)
    device = choose_device(config.train.device, job.fallback, several=True)
    _require_gpu(config, device)
    job.record("device", {"device": device, "precision": arguments.precision_name(config.train, device)})
    yaml, scan = prepare(job, config, required_splits(config))
    model = weights.initial_model(config.model)
    _announce(job, config, model, device)
    overrides = arguments.training_arguments(
        config, model=model, data=str(yaml), save_dir=str(job.folder / "yolo"), device=device
    )
    progress, trained = _Progress(), False
    if config.train.resume is not None:
        earlier = resume.read_checkpoint(job.folder, config, scan.names, overrides)
        overrides["resume"] = str(earlier.checkpoint)
        progress = _Progress(earlier.epoch, earlier.best_epoch, earlier.best_metrics)
        trained = earlier.trained
        job.resumed(earlier.epoch)
    job.begin()
    if trained:
        from watchme.engines.yolo.trainer import strip_checkpoints

        log.info("Its %d epochs are trained; the best weights are evaluated", progress.epochs)
        strip_checkpoints(job.folder / "weights")
    else:
        _train(job, config, overrides, scan.names, progress)
    return _finish(job, config, yaml, scan, progress, device)


def _require_gpu(config: Config, device: str) -> None:
    """Refuse what train.device=auto can only do where it finds a GPU; ultralytics would train on with a batch of 16."""
    if config.train.batch_size == -1 and device in ("cpu", "mps"):
        expected = f"-1 measures a GPU's memory, and this run is on {device}; name a size, e.g. 16"
        raise ConfigError([Problem("train.batch_size", expected, "-1")])


def _announce(job: Job, config: Config, model: str, device: str) -> None:
    """Announce what differs from what a reader of the config expects."""
    if config.optimizer.name == "auto":
        job.fallback(
            "optimizer=auto: ultralytics chooses optimizer, learning rate and momentum; the config's are not used"
        )
    announce_workers(job, config, device)
    if model.endswith(".pt") and config.train.resume is None:
        loaded, _ = weights.load(Path(model))
        found = Path(str((loaded.yaml or {}).get("yaml_file", ""))).stem
        if found and weights.canonical(found) != weights.canonical(config.model.name).removesuffix(".yaml"):
            job.fallback(f"{model} holds a {found}, which is trained instead of model.name={config.model.name}")


@dataclass
class _Progress:
    """The epochs so far; `metrics` are those of the best one."""

    epochs: int = 0
    best_epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    stop: Stop | None = None


def _train(job: Job, config: Config, overrides: dict[str, Any], names: list[str], progress: _Progress) -> None:
    from watchme.core.step_profiler import StepProfiler  # imports torch
    from watchme.engines.yolo.trainer import WatchmeTrainer, passing_on

    def emit(event: EpochEvent) -> Stop | None:
        if progress.epochs == 0:
            resume.write_identity(job.folder, config, names)
        progress.epochs = event.epoch
        if event.is_best:
            progress.best_epoch, progress.metrics = event.epoch, event.metrics
        log.info(
            "epoch %3d/%d  loss %.3f  %s %.4f%s  %.0f images/s%s",
            event.epoch,
            event.epochs,
            event.metrics["train/loss"],
            config.objective,
            event.metrics[config.objective],
            " *" if event.is_best else "",
            event.timings["perf/images_per_s"],
            time_left(event.epoch, event.epochs, event.timings["time/epoch_s"]),
        )
        progress.stop = job.emit(event)
        return progress.stop

    batch_size = config.train.batch_size

    def note_batch_size(used: int) -> None:
        nonlocal batch_size
        job.record("batch_size", used)
        if batch_size == -1:
            log.info("train.batch_size=-1: %d images fit the GPU's memory", used)
        elif used < batch_size:
            job.fallback(f"out of memory with a batch of {batch_size}: ultralytics trains on with {used}")
        batch_size = used

    with passing_on(config, job.step_every), torch_threads():
        trainer = _build_trainer(WatchmeTrainer, overrides)
        trainer.emit, trainer.note_batch_size = emit, note_batch_size
        if config.train.profile:
            trainer.profiler = StepProfiler(job.folder, on_gpu=overrides["device"] not in ("cpu", "mps"))
        if not trainer.ddp:
            trainer.steps = StepMeter(job.step_every, job.step)
        with serve(emit, job.step) if trainer.ddp else contextlib.nullcontext():
            trainer.train()
    if trainer.profiler is not None and trainer.profiler.table is not None:
        job.show(trainer.profiler.table)


def _build_trainer(trainer: type[Any], overrides: dict[str, Any]) -> Any:
    try:
        return trainer(overrides=overrides)
    except (TypeError, ValueError, SyntaxError) as error:
        # ultralytics checks the types and ranges of its arguments here.
        raise ConfigError([Problem("model.args", f"ultralytics refuses an argument: {error}")]) from error


def _finish(job: Job, config: Config, yaml: Path, scan: Scan, progress: _Progress, device: str) -> Result:
    """Evaluate the best weights; of a pruned run only the metrics of its epochs are reported."""
    from watchme.engines.yolo.validator import evaluate

    files = {name: job.folder / "weights" / f"{name}.pt" for name in ("best", "last")}
    metrics: dict[str, float] = dict(progress.metrics)
    details: dict[str, Any] = {}
    pruned = progress.stop is not None and progress.stop.kind == "pruned"
    for split in ("val", "test"):
        if pruned or split not in scan.splits:
            continue
        if not scan.splits[split]["boxes"]:
            job.fallback(f"the {split} split has no boxes, so it is not evaluated")
            continue
        found = evaluate(job, config, files["best"], yaml, split, device)
        metrics |= found.metrics
        details[split] = found.details
    return Result(
        metrics,
        metrics.get(config.objective, math.nan),
        progress.best_epoch,
        progress.epochs,
        {name: path for name, path in files.items() if path.is_file()},
        details,
    )
