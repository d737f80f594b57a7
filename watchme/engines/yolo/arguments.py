"""Config -> ultralytics' arguments: one pure function, and a table of every argument that ultralytics has.

Each key of ultralytics' default.yaml is in exactly one of MAPPED (a key of the config), FREE (reachable through
`model.args`) or REFUSED (with the reason); a test walks them all.
"""

from dataclasses import fields
from typing import Any

from watchme.engines.yolo.config import Config, YoloAugmentation, YoloTrain

OPTIMIZERS = {"auto": "auto", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSProp", "radam": "RAdam"}
_AUGMENTATIONS = [each.name for each in fields(YoloAugmentation) if each.name != "engine"]

MAPPED: dict[str, str] = {
    "epochs": "train.epochs",
    "batch": "train.batch_size",
    "nbs": "train.nominal_batch_size",
    "imgsz": "dataset.image_size",
    "save_period": "train.save_period",
    "cache": "dataset.cache",
    "device": "train.device",
    "workers": "train.workers",
    "patience": "train.patience",
    "seed": "train.seed",
    "deterministic": "train.deterministic",
    "single_cls": "dataset.single_class",
    "rect": "train.rect",
    "cos_lr": "scheduler.name",
    "amp": "train.precision",
    "fraction": "dataset.fraction",
    "freeze": "train.freeze",
    "compile": "train.compile",
    "dropout": "train.dropout",
    "optimizer": "optimizer.name",
    "lr0": "optimizer.lr",
    "lrf": "scheduler.final_lr_ratio",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "warmup_epochs": "scheduler.warmup_epochs",
    "warmup_momentum": "scheduler.warmup_momentum",
    "warmup_bias_lr": "scheduler.warmup_bias_lr",
    "box": "loss.box",
    "cls": "loss.cls",
    "dfl": "loss.dfl",
    "cls_pw": "loss.cls_pw",
    "conf": "evaluation.confidence",
    "iou": "evaluation.iou",
    "max_det": "evaluation.max_detections",
    "split": "evaluation.split",
    "augment": "evaluation.augment",
    "plots": "evaluation.plots",
    "classes": "dataset.classes",
    "pretrained": "model.weights",
    "model": "model.name",
    "data": "dataset.root",
    "resume": "train.resume",
    "mode": "mode",
    **{name: f"augmentation.{name}" for name in _AUGMENTATIONS},
}

FREE = frozenset(
    [
        "time",
        "cls_remap",
        "profile",
        "channels_last",
        "save_json",
        "quantize",
        "nms",
        "agnostic_nms",
        "distill_model",
        "dis",
        "visualize",
        "save_txt",
        "save_conf",
        "show_labels",
        "show_conf",
        "show_boxes",
        "line_width",
    ]
)
# Those of FREE that an evaluation knows; the others belong to training.
EVALUATION = FREE & frozenset(
    [
        "channels_last",
        "save_json",
        "quantize",
        "nms",
        "agnostic_nms",
        "visualize",
        "save_txt",
        "save_conf",
        "show_labels",
        "show_conf",
        "show_boxes",
        "line_width",
    ]
)

_TASK = "it belongs to another task than detection"
_PREDICT = "it belongs to prediction or export, not to training and evaluation"
REFUSED: dict[str, str] = {
    "task": "watchme's YOLO engine detects",
    "save_dir": "the run folder is chosen by hydra.run.dir",
    "augmentations": "it takes objects of the albumentations package, which a config cannot hold",
    "project": "the run folder is chosen by hydra.run.dir",
    "name": "the run folder is chosen by hydra.run.dir",
    "exist_ok": "a run folder is never overwritten",
    "save": "checkpoints are always written",
    "val": "validation feeds the objective; see train.eval_every",
    "verbose": "logging is hydra's: hydra.verbose=true",
    "cfg": "the config is composed from conf/",
    "tracker": "it tracks objects in video, no experiments; see the tracker group",
    **dict.fromkeys(("overlap_mask", "mask_ratio", "pose", "kobj", "rle", "angle", "dlog", "dgrad", "dlam"), _TASK),
    **dict.fromkeys(("auto_augment", "erasing", "retina_masks"), _TASK),
    **dict.fromkeys(("source", "vid_stride", "stream_buffer", "embed", "show", "save_frames", "save_crop"), _PREDICT),
    **dict.fromkeys(("format", "optimize", "dynamic", "simplify", "opset", "workspace", "dnn"), _PREDICT),
}


def training_arguments(config: Config, *, model: str, data: str, save_dir: str, device: str) -> dict[str, Any]:
    """Return the overrides for ultralytics' trainer: every argument that `MAPPED` names, plus `model.args`.

    `model` is a .yaml (from scratch) or .pt; `device` is in ultralytics' spelling: cpu, mps, 0, 0,1.
    """
    train, dataset = config.train, config.dataset
    return {
        "task": "detect",
        "mode": "train",
        "model": model,
        "data": data,
        "save_dir": save_dir,
        "device": device,
        "pretrained": model.endswith(".pt"),
        "epochs": train.epochs,
        "batch": train.batch_size,
        # -1 with batch_size=-1 is set by the trainer, when the batch has been measured.
        "nbs": train.batch_size if train.nominal_batch_size == -1 else train.nominal_batch_size,
        "workers": train.workers,
        "seed": train.seed,
        "deterministic": train.deterministic,
        "save_period": train.save_period or -1,
        # Early stopping is a callback, the same for every engine; 0 turns ultralytics' own off.
        "patience": 0,
        "rect": train.rect,
        "freeze": train.freeze,
        "compile": train.compile,
        "dropout": train.dropout,
        "amp": precision(train, device),
        "imgsz": dataset.image_size,
        "cache": {"none": False, "ram": True, "disk": "disk"}[dataset.cache],
        "single_cls": dataset.single_class,
        "fraction": dataset.fraction,
        **_optimizer_arguments(config),
        "box": config.loss.box,
        "cls": config.loss.cls,
        "dfl": config.loss.dfl,
        "cls_pw": config.loss.cls_pw,
        **{name: getattr(config.augmentation, name) for name in _AUGMENTATIONS},
        **evaluation_arguments(config),
        # The curves are drawn once, by the evaluation of the best weights.
        "plots": False,
        "split": "val",
        "verbose": False,
        **config.model.args,
    }


def _optimizer_arguments(config: Config) -> dict[str, Any]:
    scheduler = config.scheduler
    return {
        "optimizer": OPTIMIZERS[config.optimizer.name],
        "lr0": config.optimizer.lr,
        "momentum": config.optimizer.momentum,
        "weight_decay": config.optimizer.weight_decay,
        "cos_lr": scheduler.name == "cosine",
        # A constant rate is the linear schedule that ends where it starts.
        "lrf": 1.0 if scheduler.name == "constant" else _or(scheduler.final_lr_ratio, 0.01),
        "warmup_epochs": scheduler.warmup_epochs,
        "warmup_momentum": _or(scheduler.warmup_momentum, 0.8),
        "warmup_bias_lr": _or(scheduler.warmup_bias_lr, 0.1),
    }


def evaluation_arguments(config: Config) -> dict[str, Any]:
    """Return what training's validation and a later evaluation have in common."""
    free = {name: value for name, value in config.model.args.items() if name in EVALUATION}
    return {
        **free,
        "conf": config.evaluation.confidence,
        "iou": config.evaluation.iou,
        "max_det": config.evaluation.max_detections,
        "augment": config.evaluation.augment,
        "plots": config.evaluation.plots,
    }


def precision_name(train: YoloTrain, device: str) -> str:
    """`train.precision` with `auto` decided: ultralytics' fp16 mixed precision where a GPU is."""
    if train.precision != "auto":
        return train.precision
    return "fp32" if device in ("cpu", "mps") or train.detect_anomaly else "fp16"


def precision(train: YoloTrain, device: str) -> bool | str:
    """`train.precision` as ultralytics' `amp`."""
    named: dict[str, bool | str] = {"fp32": False, "fp16": True, "bf16": "bf16"}
    return named[precision_name(train, device)]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
