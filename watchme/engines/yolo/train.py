"""The YOLO engine: prepares data and weights, trains, evaluates the best weights, hands over pictures."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from watchme.core.errors import ConfigError, DataError, Problem, TrainingError
from watchme.core.interfaces import EpochEvent, Job, Result, Stop
from watchme.engines.yolo import arguments, isolation, resume
from watchme.engines.yolo import dataset as data
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.check import check_briefly
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.config_rules import required_splits
from watchme.engines.yolo.events import serve
from watchme.engines.yolo.layout import read_layout

log = logging.getLogger(__name__)


def train(job: Job) -> Result:
    """Train, then evaluate the best weights on val, and on test where there is one."""
    isolation.isolate()
    config = cast(Config, job.config)
    device = choose_device(config.train.device)
    job.record("device", {"device": device, "precision": arguments.precision_name(config.train.precision, device)})
    yaml, scan = prepare(job, config, required_splits(config))
    model = weights.initial_model(config.model)
    _announce(job, config, model)
    overrides = arguments.training_arguments(
        config, model=model, data=str(yaml), save_dir=str(job.folder / "yolo"), device=device
    )
    progress = _Progress()
    if config.train.resume is not None:
        past = resume.look_back(job.folder, config, scan.names, overrides)
        overrides["resume"] = str(past.checkpoint)
        progress = _Progress(past.epoch, past.best_epoch, past.best_metrics)
        job.resumed(past.epoch)
    _train(job, config, overrides, scan.names, progress)
    return _finish(job, config, yaml, scan, progress, device)


def choose_device(wanted: str | int | list[int]) -> str:
    """`train.device` in ultralytics' spelling: cpu, mps, 0, 0,1.

    Raises:
        ConfigError: If the machine does not have it.
    """
    from watchme.core.device import choose_device

    if isinstance(wanted, list):
        for index in wanted:
            choose_device(index)
        return ",".join(map(str, wanted))
    device = choose_device(wanted)
    return str(device.index or 0) if device.type == "cuda" else device.type


def prepare(job: Job, config: Config, required: tuple[str, ...], *, only_one: bool = False) -> tuple[Path, data.Scan]:
    """Check the dataset, tell of what was found, and return the data.yaml to work on."""
    layout = read_layout(data.root_of(config), required)
    if only_one:
        split = next(name for name in (*required, "test", "val", "train") if name in layout.splits)
        layout = replace(layout, splits={split: layout.splits[split]})
    if layout.source is None:
        job.fallback(f"{layout.root} has no data.yaml: the standard layout with the one class person is assumed")
    elif layout.assumed_names:
        job.fallback(f"{layout.source} has no names: the classes are called {', '.join(layout.names)}")
    yaml, scan = data.prepare(layout, config.dataset.classes)
    if scan.skipped:
        some = ", ".join(scan.skipped[:5]) + (f" and {len(scan.skipped) - 5} more" if len(scan.skipped) > 5 else "")
        count = f"{len(scan.skipped)} unreadable images are" if len(scan.skipped) > 1 else "1 unreadable image is"
        job.fallback(f"{count} left out: {some}")
    for split, counts in scan.splits.items():
        log.info(
            "%-5s %6d images, %6d boxes, %5d without a box (%d of them without a label file)",
            split,
            *(counts[name] for name in ("images", "boxes", "negatives", "unlabelled")),
        )
        if split in required and not counts["boxes"]:
            kept = f" of {', '.join(scan.names)}" if config.dataset.classes else ""
            raise DataError(f"the {split} split has no boxes{kept}: {', '.join(map(str, layout.splits[split]))}")
    job.record(
        "dataset",
        {
            "name": config.dataset.name,
            "root": str(layout.root.resolve()),
            "fingerprint": scan.fingerprint,
            "splits": scan.splits,
            "names": scan.names,
            "unreadable": scan.skipped,
        },
    )
    if config.mode == "train" and config.check.before_training:
        check_briefly(job, layout, yaml.parent)
    return yaml, scan


def _announce(job: Job, config: Config, model: str) -> None:
    """Say where something else is done than a reader of the config may think."""
    if config.optimizer.name == "auto":
        job.fallback("optimizer=auto: ultralytics chooses optimizer, learning rate and momentum; ours are not used")
    if model.endswith(".pt") and config.train.resume is None:
        loaded, _ = weights.load(Path(model))
        own = Path(str((loaded.yaml or {}).get("yaml_file", ""))).stem
        if own and weights.canonical(own) != weights.canonical(config.model.name).removesuffix(".yaml"):
            job.fallback(f"{model} holds a {own}, which is trained instead of model.name={config.model.name}")


@dataclass
class _Progress:
    """What the epochs have come to so far; `metrics` are those of the best one."""

    epochs: int = 0
    best_epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    stop: Stop | None = None


def _train(job: Job, config: Config, overrides: dict[str, Any], names: list[str], progress: _Progress) -> None:
    from watchme.engines.yolo.trainer import OBJECTIVE, WatchmeTrainer

    def emit(event: EpochEvent) -> Stop | None:
        if progress.epochs == 0:
            resume.write_identity(job.folder, config, names)
        progress.epochs = event.epoch
        if event.is_best:
            progress.best_epoch, progress.metrics = event.epoch, event.metrics
        log.info(
            "epoch %3d/%d  loss %.3f  %s %.4f%s  %.0f images/s",
            event.epoch,
            event.epochs,
            event.metrics["train/loss"],
            config.objective,
            event.metrics[config.objective],
            " *" if event.is_best else "",
            event.timings["perf/images_per_s"],
        )
        progress.stop = job.emit(event)
        return progress.stop

    os.environ[OBJECTIVE] = config.objective
    try:
        with isolation.threads_kept():
            trainer = _build_trainer(WatchmeTrainer, overrides)
            if trainer.ddp:
                with serve(emit):
                    trainer.train()
            else:
                trainer.emit = emit
                trainer.train()
    except RuntimeError as error:
        raise _explained(error) from error
    finally:
        os.environ.pop(OBJECTIVE, None)


def _build_trainer(trainer: type[Any], overrides: dict[str, Any]) -> Any:
    try:
        return trainer(overrides=overrides)
    except (TypeError, ValueError, SyntaxError) as error:
        # ultralytics checks the types and ranges of what model.args holds when it is made.
        raise ConfigError([Problem("model.args", f"ultralytics refuses an argument: {error}")]) from error


def _explained(error: RuntimeError) -> RuntimeError | TrainingError:
    """An error with a way out for what goes wrong most often; others as they are."""
    text = str(error)
    if "out of memory" in text.lower():
        return TrainingError(
            "the GPU's memory is too small; lower train.batch_size or dataset.image_size, or set train.batch_size=-1"
        )
    if "NaN persisted" in text:
        return TrainingError("the loss is NaN again and again; lower optimizer.lr or set train.precision=fp32")
    return error


def _finish(job: Job, config: Config, yaml: Path, scan: data.Scan, progress: _Progress, device: str) -> Result:
    """Evaluate the best weights; of a pruned run only what its epochs have shown is reported."""
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
