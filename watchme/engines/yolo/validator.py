"""Evaluation of a weights file on one split: metrics, per-class table, speed, curves and example images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchme.core.batch_limit import Limit
from watchme.core.device import is_out_of_memory
from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Job, Picture, Table
from watchme.core.process_state import torch_threads
from watchme.engines.yolo import arguments, error_analysis, isolation
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.batch_limit import limit_images
from watchme.engines.yolo.chart_tables import chart_tables
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.metric_names import canonical_metrics, f1
from watchme.engines.yolo.out_of_memory import evaluation_batch, evaluation_error
from watchme.engines.yolo.progress import validation_progress
from watchme.io.files import locked
from watchme.metrics.recall_groups import COLUMNS, recall_by_group

isolation.isolate()

import torch  # noqa: E402
from ultralytics import YOLO  # noqa: E402
from ultralytics.models.yolo.detect import DetectionValidator  # noqa: E402

_PICTURES = {
    "BoxPR_curve.png": ("pr_curve", "Precision over recall"),
    "BoxF1_curve.png": ("f1_curve", "F1 over confidence"),
    "BoxP_curve.png": ("precision_curve", "Precision over confidence"),
    "BoxR_curve.png": ("recall_curve", "Recall over confidence"),
    "confusion_matrix.png": ("confusion_matrix", "Confusion matrix"),
    "confusion_matrix_normalized.png": ("confusion_matrix_normalized", "Confusion matrix, normalised by truth"),
    "val_batch0_labels.jpg": ("labels", "Labels of the first batch"),
    "val_batch0_pred.jpg": ("predictions", "Predictions of the first batch at confidence >= 0.25"),
}
_COLUMNS = ("class", "images", "boxes", "precision", "recall", "f1", "map50", "map50_95")


@dataclass(frozen=True)
class Evaluation:
    """Results of one evaluation."""

    # Canonical name, e.g. `test/map50` -> value; precision and recall at the confidence of the best F1
    metrics: Mapping[str, float]
    details: Mapping[str, Any]  # `per_class` (name -> metrics) and `speed_ms_per_image` (step -> milliseconds)


def evaluate(job: Job, config: Config, checkpoint: Path, yaml: Path, split: str, device: str) -> Evaluation:
    """Evaluate a weights file on one split as `YOLO(checkpoint).val(...)` does, and show its pictures.

    Args:
        job: Gets the table and the pictures, which are written to `job.folder / "evaluation" / split`.
        config: The run's config.
        checkpoint: Weights of a detector.
        yaml: The data.yaml of the checked copy.
        split: train, val or test.
        device: In ultralytics' spelling.

    Raises:
        CheckpointError: If the weights cannot be loaded or have fewer classes than the dataset.
    """
    with weights.loading(checkpoint):
        model = YOLO(str(checkpoint.resolve()))
    weights.check_model(checkpoint, model.task, model.model)
    check_classes(job, config, checkpoint, model.names, yaml)
    folder = job.folder / "evaluation" / split
    found, seen = validate(model, config, yaml, split, device, folder)
    rows = tuple(_row(found, position) for position in range(len(found.ap_class_index)))
    job.show(Table(f"{split}/per_class", _COLUMNS, rows))
    for table in chart_tables(found, split, seen.confidence):
        job.show(table)
    _show_mistakes(job, config, seen, split, folder)
    speed = {f"{name}_ms": float(value) for name, value in found.speed.items()}
    per_class = {str(row[0]): dict(zip(_COLUMNS[1:], row[1:], strict=True)) for row in rows}
    return Evaluation(
        canonical_metrics(found.results_dict, split),
        {"per_class": per_class, "speed_ms_per_image": speed, "confidence": seen.confidence},
    )


def _show_mistakes(job: Job, config: Config, seen: "Seen", split: str, folder: Path) -> None:
    """Tables of who was found, missed and found wrongly, curves, and the worst images, at the best confidence."""
    confidence = seen.confidence
    counts = (confidence, *error_analysis.totals(seen.images, confidence))
    job.show(Table(f"{split}/counts", error_analysis.COUNT_COLUMNS, (counts,)))
    groups = tuple(recall_by_group([image.frame(confidence) for image in seen.images]))
    job.show(Table(f"{split}/by_group", COLUMNS, groups))
    if config.evaluation.plots:
        for file, (name, caption) in _PICTURES.items():
            if name.startswith("confusion") and len(seen.names) == 1:
                continue  # for one class it is the row of counts
            at = f" at confidence >= {confidence}, the best F1" if name.startswith("confusion") else ""
            if (folder / file).is_file():
                job.show(Picture(f"{split}/{name}", folder / file, f"{caption}{at}, {split} split"))
    for number, image in enumerate(error_analysis.worst_first(seen.images, confidence, config.evaluation.examples)):
        job.show(error_analysis.picture(image, confidence, seen.names, number, folder / "examples", split))


def validate(
    model: Any,
    config: Config,
    yaml: Path,
    split: str,
    device: str,
    folder: Path,
    **changes: Any,
) -> tuple[Any, "Seen"]:
    """Run ultralytics' validation on one split.

    Args:
        model: A `YOLO`, of weights or of an exported file.
        config: The run's config.
        yaml: The data.yaml of the checked copy.
        split: train, val or test.
        device: In ultralytics' spelling.
        folder: Where ultralytics writes.
        changes: Arguments of ultralytics that replace the config's.

    Returns:
        Its metrics, and what was found in each image.
    """
    validator: dict[str, _Validator] = {}

    def build(args: dict[str, Any], _callbacks: Any) -> _Validator:
        validator["made"] = _Validator(args=args, _callbacks=_callbacks)
        validator["made"].limit = config.train.limit_batches
        return validator["made"]

    settings = {
        "data": str(yaml),
        "split": split,
        "imgsz": config.dataset.image_size,
        "batch": evaluation_batch(config),
        "device": device.split(",")[0],
        "workers": config.train.workers,
        "single_cls": config.dataset.single_class,
        "save_dir": str(folder),
        "verbose": False,
        **arguments.evaluation_arguments(config),
        **changes,
    }
    try:
        with torch_threads(), validation_progress(f"evaluating {split}"):
            found = model.val(validator=build, **settings)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise evaluation_error(error, config) from error
    return found, validator["made"].seen_images


def check_classes(job: Job, config: Config, checkpoint: Path, known: Mapping[int, str], yaml: Path) -> None:
    """Raise a `CheckpointError` if a model has fewer classes than the dataset; announce names that differ."""
    from yaml import safe_load

    if config.dataset.single_class:
        return  # ultralytics compares all classes as one
    names: dict[int, str] = safe_load(yaml.read_text(encoding="utf-8"))["names"]
    if len(known) < len(names):
        raise CheckpointError(
            f"{checkpoint} has {len(known)} classes ({', '.join(known.values())}), the dataset has "
            f"{len(names)} ({', '.join(names.values())}); keep common ones with dataset.classes=[...], or "
            f"count all as one with dataset.single_class=true"
        )
    differing = [f"{names[index]} is {known[index]}" for index in names if names[index] != known[index]]
    if differing:
        job.fallback(f"classes are matched by number, and in {checkpoint.name} {', '.join(differing[:5])}")


def _row(found: Any, position: int) -> tuple[Any, ...]:
    """One row of the per-class table, in the order of `_COLUMNS`."""
    index = int(found.ap_class_index[position])
    precision, recall, map50, map50_95 = (float(value) for value in found.class_result(position))
    images, boxes = int(found.nt_per_image[index]), int(found.nt_per_class[index])
    return found.names[index], images, boxes, precision, recall, f1(precision, recall), map50, map50_95


@dataclass
class Seen:
    """What a validation has seen."""

    names: Mapping[int, str] = field(default_factory=dict)  # class number -> name
    images: list[error_analysis.Matches] = field(default_factory=list)
    confidence: float = 0.0  # that of the best F1, at which precision and recall are reported


class _Validator(DetectionValidator):  # type: ignore[misc]
    """DetectionValidator that keeps what it found in each image; its confusion matrix is that of the best F1."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen_images = Seen()
        self.limit: Limit = None

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> Any:
        """Build a dataset, less what `train.limit_batches` leaves out."""
        return limit_images(super().build_dataset(img_path, mode, batch), batch or 1, self.limit)

    def get_dataloader(self, dataset_path: str, batch_size: int) -> Any:
        """Build a loader; the lock lets one process at a time write ultralytics' label cache."""
        with locked(Path(self.args.data).parent / ".lock"):
            return super().get_dataloader(dataset_path, batch_size)

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """Match a batch's predictions, and keep them."""
        # The confusion matrix is made at the end, when the best confidence is known: at ultralytics' 0.001 it shows
        # many times more false positives than boxes.
        plots, self.args.plots = self.args.plots, False
        super().update_metrics(preds, batch)
        self.args.plots = plots
        for index, pred in enumerate(preds):
            truth = self._prepare_batch(index, batch)
            people = self.scale_preds({"bboxes": truth["bboxes"], "cls": truth["cls"]}, truth)
            image = error_analysis.match(Path(truth["im_file"]), self.scale_preds(pred, truth), people)
            self.seen_images.images.append(image)

    def get_stats(self) -> dict[str, Any]:
        """Compute the metrics, and the confusion matrix at the confidence of the best F1."""
        stats: dict[str, Any] = super().get_stats()
        seen = self.seen_images
        seen.names = self.names
        seen.confidence = max(error_analysis.best_confidence(self.metrics.box), self.args.conf or 0.0)
        for image in seen.images:
            shown = image.scores >= seen.confidence
            self.confusion_matrix.process_batch(
                _tensors(cls=image.classes[shown], bboxes=image.boxes[shown], conf=image.scores[shown]),
                _tensors(cls=image.labels, bboxes=image.people),
                conf=0.0,
                iou_thres=error_analysis.MATCH_IOU,
            )
        return stats


def _tensors(**arrays: Any) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
