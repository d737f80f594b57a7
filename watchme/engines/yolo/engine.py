"""The YOLO engine: prepares data and weights, trains, evaluates the best weights, hands over pictures."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from watchme.contract import EpochEvent, Job, Picture, Result, Stop, Table
from watchme.engines.yolo import arguments, data, isolation
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.events import canonical_metrics, serve
from watchme.engines.yolo.layout import read_layout
from watchme.engines.yolo.weights import initial_model
from watchme.errors import CheckpointError, ConfigError, Problem

log = logging.getLogger(__name__)

# What may change when a run is resumed (ultralytics' own list, in our keys); the rest it would silently ignore.
_RESUMABLE = frozenset(
    "imgsz batch device close_mosaic save_period workers cache patience time freeze plots channels_last save_dir "
    "model data resume pretrained split conf iou max_det augment verbose task mode".split()
)


class Engine:
    """Trains and evaluates YOLO detectors with ultralytics."""

    def train(self, job: Job) -> Result:
        """Train, then evaluate the best weights on val, and on test where there is one. See `contract.Engine`."""
        isolation.isolate()
        config = cast(Config, job.config)
        yaml, scan = _prepare_data(job, config)
        device = choose_device(config.train.device)
        overrides = arguments.training_arguments(
            config,
            model=initial_model(config.model.name, config.model.weights),
            data=str(yaml),
            save_dir=str(job.folder / "yolo"),
            device=device,
        )
        start = 0
        if config.train.resume is not None:
            last = _checkpoint_of(config.train.resume)
            start = _last_epoch(last)
            _refuse_ignored_changes(job.folder / "yolo" / "args.yaml", overrides)
            overrides["resume"] = str(last)
            job.resumed(start)
        progress = _Progress(epochs=start)
        _train(job, config, overrides, progress)
        return self._finish(job, config, yaml, list(scan.splits), progress)

    def evaluate(self, job: Job) -> Result:
        """Evaluate a checkpoint on one split: evaluation.split, or test where there is one, or val."""
        isolation.isolate()
        config = cast(Config, job.config)
        yaml, scan = _prepare_data(job, config)
        split = config.evaluation.split or ("test" if "test" in scan.splits else "val")
        assert config.checkpoint is not None
        metrics, details = _evaluate(job, config, Path(config.checkpoint).expanduser(), yaml, split)
        objective = metrics.get(f"{split}/{config.objective.split('/', 1)[1]}", math.nan)
        return Result(metrics, objective, details={split: details})

    def _finish(self, job: Job, config: Config, yaml: Path, splits: list[str], progress: "_Progress") -> Result:
        weights = {name: job.folder / "weights" / f"{name}.pt" for name in ("best", "last")}
        metrics, details = dict(progress.metrics), {}
        for split in ("val", "test"):
            if split in splits:
                values, details[split] = _evaluate(job, config, weights["best"], yaml, split)
                metrics |= values
        return Result(
            metrics,
            metrics.get(config.objective, math.nan),
            progress.best_epoch,
            progress.epochs,
            {name: path for name, path in weights.items() if path.is_file()},
            details,
        )


def choose_device(wanted: str | int | list[int]) -> str:
    """`train.device` in ultralytics' spelling: cpu, mps, 0, 0,1."""
    if isinstance(wanted, list):
        return ",".join(map(str, wanted))
    if wanted == "auto":
        import torch

        return "0" if torch.cuda.is_available() else "cpu"
    return "0" if wanted == "cuda" else str(wanted)


def _prepare_data(job: Job, config: Config) -> tuple[Path, data.Scan]:
    root = config.dataset.root
    if root is None:
        assert config.dataset.demo is not None
        from watchme.data.demo import ensure_demo_world

        world = ensure_demo_world(config.dataset.demo)
        if world.created:
            log.info("Made the demo world in %s", world.root)
        root = str(world.detection)
    layout = read_layout(Path(root))
    if layout.source is None:
        job.fallback(f"{layout.root} has no data.yaml: the standard layout with the one class person is assumed")
    yaml, scan = data.prepare(layout, config.dataset.classes)
    if scan.skipped:
        job.fallback(f"{len(scan.skipped)} unreadable images are left out: {', '.join(scan.skipped[:5])}")
    for split, counts in scan.splits.items():
        log.info(
            "%-5s %5d images, %5d boxes, %d without a box",
            split,
            counts["images"],
            counts["boxes"],
            counts["negatives"],
        )
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
    return yaml, scan


@dataclass
class _Progress:
    """What the epochs have come to so far; `metrics` are those of the best one."""

    epochs: int
    best_epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def _train(job: Job, config: Config, overrides: dict[str, Any], progress: _Progress) -> None:
    from watchme.engines.yolo.trainer import OBJECTIVE, WatchmeTrainer

    def emit(event: EpochEvent) -> Stop | None:
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
        return job.emit(event)

    os.environ[OBJECTIVE] = config.objective
    try:
        trainer = WatchmeTrainer(overrides=overrides)
        if trainer.ddp:
            with serve(emit):
                trainer.train()
        else:
            trainer.emit = emit
            trainer.train()
    finally:
        os.environ.pop(OBJECTIVE, None)


def _evaluate(
    job: Job, config: Config, weights: Path, yaml: Path, split: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics of one split under canonical names, and the per-class table and speed for summary.json."""
    from ultralytics import YOLO

    folder = job.folder / "evaluation" / split
    try:
        model = YOLO(str(weights))
    except Exception as error:
        raise CheckpointError(f"{weights} cannot be loaded as a YOLO model: {error}") from error
    found = model.val(
        data=str(yaml),
        split=split,
        imgsz=config.dataset.image_size,
        batch=max(config.train.batch_size, 1),
        device=choose_device(config.train.device).split(",")[0],
        workers=config.train.workers,
        single_cls=config.dataset.single_class,
        save_dir=str(folder),
        verbose=False,
        **arguments.evaluation_arguments(config),
    )
    metrics = {name: value for name, value in canonical_metrics(found.results_dict, split).items()}
    rows = tuple(
        (found.names[int(index)], *(float(value) for value in found.class_result(position)))
        for position, index in enumerate(found.ap_class_index)
    )
    job.show(Table(f"{split}/per_class", ("class", "precision", "recall", "map50", "map50_95"), rows))
    _show_pictures(job, folder, split)
    speed = {f"{name}_ms": float(value) for name, value in found.speed.items()}
    classes = {
        str(row[0]): dict(zip(("precision", "recall", "map50", "map50_95"), row[1:], strict=True)) for row in rows
    }
    return metrics, {"per_class": classes, "speed_ms_per_image": speed}


_PICTURES = {
    "BoxPR_curve.png": ("pr_curve", "Precision over recall"),
    "BoxF1_curve.png": ("f1_curve", "F1 over confidence"),
    "BoxP_curve.png": ("precision_curve", "Precision over confidence"),
    "BoxR_curve.png": ("recall_curve", "Recall over confidence"),
    "confusion_matrix.png": ("confusion_matrix", "Confusion matrix"),
    "val_batch0_labels.jpg": ("labels", "Labels"),
    "val_batch0_pred.jpg": ("predictions", "Predictions"),
}


def _show_pictures(job: Job, folder: Path, split: str) -> None:
    for file, (name, caption) in _PICTURES.items():
        if (folder / file).is_file():
            job.show(Picture(f"{split}/{name}", folder / file, f"{caption}, {split} split"))


def _checkpoint_of(resume: str) -> Path:
    path = Path(resume).expanduser().resolve()
    return path / "weights" / "last.pt" if path.is_dir() else path


def _last_epoch(checkpoint: Path) -> int:
    """The last epoch (from 1) that a checkpoint holds."""
    from ultralytics.nn.tasks import load_checkpoint

    try:
        _, content = load_checkpoint(str(checkpoint))
    except Exception as error:
        raise CheckpointError(f"{checkpoint} cannot be loaded to resume from: {error}") from error
    if content.get("optimizer") is None or content.get("epoch", -1) < 0:
        raise CheckpointError(
            f"{checkpoint} is of a run that has finished; there is nothing to resume.\n"
            f"    To train on from its weights: model.weights={checkpoint}"
        )
    return int(content["epoch"]) + 1


def _refuse_ignored_changes(saved: Path, overrides: dict[str, Any]) -> None:
    """Refuse what ultralytics would ignore with a warning: it takes most arguments from the checkpoint."""
    import yaml

    before = yaml.safe_load(saved.read_text(encoding="utf-8")) if saved.is_file() else {}
    problems = [
        Problem(
            arguments.MAPPED.get(name, f"model.args.{name}"),
            f"a resumed run keeps its {before[name]!r}; start a new one from its weights to change it",
            repr(value),
        )
        for name, value in overrides.items()
        if name not in _RESUMABLE and name in before and before[name] != value
    ]
    if problems:
        raise ConfigError(problems)
