"""Config -> ultralytics' arguments: one pure function, and a table of every argument that ultralytics has.

Each key of ultralytics' default.yaml is in exactly one of MAPPED (a key of the config), FREE (reachable through
`model.args`) or REFUSED (with the reason); a test walks them all.
"""

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from watchme.engines.yolo.config import Config, YoloAugmentation, YoloTrain

OPTIMIZERS = {"auto": "auto", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSProp", "radam": "RAdam"}
_AUGMENTATIONS = [each.name for each in fields(YoloAugmentation) if each.name != "engine"]

# ultralytics' name -> the key whose value is passed on as it is.
_TRAINING = {
    "epochs": "train.epochs",
    "batch": "train.batch_size",
    "imgsz": "dataset.image_size",
    "workers": "train.workers",
    "seed": "train.seed",
    "deterministic": "train.deterministic",
    "single_cls": "dataset.single_class",
    "rect": "train.rect",
    "fraction": "dataset.fraction",
    "freeze": "train.freeze",
    "compile": "train.compile",
    "dropout": "train.dropout",
    "lr0": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "warmup_epochs": "scheduler.warmup_epochs",
    "box": "loss.box",
    "cls": "loss.cls",
    "dfl": "loss.dfl",
    "cls_pw": "loss.cls_pw",
    **{name: f"augmentation.{name}" for name in _AUGMENTATIONS},
}
_EVALUATION = {
    "conf": "evaluation.confidence",
    "iou": "evaluation.iou",
    "max_det": "evaluation.max_detections",
    "augment": "evaluation.augment",
    "plots": "evaluation.plots",
}
MAPPED: dict[str, str] = {
    **_TRAINING,
    **_EVALUATION,
    "nbs": "train.nominal_batch_size",
    "save_period": "train.save_period",
    "cache": "dataset.cache",
    "device": "train.device",
    "patience": "train.patience",
    "cos_lr": "scheduler.name",
    "amp": "train.precision",
    "optimizer": "optimizer.name",
    "lrf": "scheduler.final_lr_ratio",
    "warmup_momentum": "scheduler.warmup_momentum",
    "warmup_bias_lr": "scheduler.warmup_bias_lr",
    "split": "evaluation.split",
    "classes": "dataset.classes",
    "pretrained": "model.weights",
    "model": "model.name",
    "data": "dataset.root",
    "resume": "train.resume",
    "mode": "mode",
}

_FREE_IN_TRAINING = {"time", "cls_remap", "profile", "distill_model", "dis"}
# What an evaluation knows, too.
_FREE_ALWAYS = {
    *("channels_last", "save_json", "quantize", "nms", "agnostic_nms", "visualize"),
    *("save_txt", "save_conf", "show_labels", "show_conf", "show_boxes", "line_width"),
}
FREE = _FREE_IN_TRAINING | _FREE_ALWAYS

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
    train, scheduler = config.train, config.scheduler
    return {
        "task": "detect",
        "mode": "train",
        "model": model,
        "data": data,
        "save_dir": save_dir,
        "device": device,
        "pretrained": model.endswith(".pt"),
        **_values(config, _TRAINING),
        # -1 with batch_size=-1 is set by the trainer, when the batch has been measured.
        "nbs": train.batch_size if train.nominal_batch_size == -1 else train.nominal_batch_size,
        "save_period": train.save_period or -1,
        # Early stopping is a callback, the same for every engine; 0 turns ultralytics' own off.
        "patience": 0,
        "amp": precision(train, device),
        "cache": {"none": False, "ram": True, "disk": "disk"}[config.dataset.cache],
        "optimizer": OPTIMIZERS[config.optimizer.name],
        "cos_lr": scheduler.name == "cosine",
        # A constant rate is the linear schedule that ends where it starts.
        "lrf": 1.0 if scheduler.name == "constant" else _or(scheduler.final_lr_ratio, 0.01),
        "warmup_momentum": _or(scheduler.warmup_momentum, 0.8),
        "warmup_bias_lr": _or(scheduler.warmup_bias_lr, 0.1),
        **evaluation_arguments(config),
        # The curves are drawn once, by the evaluation of the best weights.
        "plots": False,
        "split": "val",
        "verbose": False,
        **config.model.args,
    }


def evaluation_arguments(config: Config) -> dict[str, Any]:
    """Return what training's validation and a later evaluation have in common."""
    free = {name: value for name, value in config.model.args.items() if name in _FREE_ALWAYS}
    return free | _values(config, _EVALUATION)


def precision_name(train: YoloTrain, device: str) -> str:
    """`train.precision` with `auto` decided: ultralytics' fp16 mixed precision where a GPU is."""
    if train.precision != "auto":
        return train.precision
    return "fp32" if device in ("cpu", "mps") or train.detect_anomaly else "fp16"


def precision(train: YoloTrain, device: str) -> bool | str:
    """`train.precision` as ultralytics' `amp`."""
    named: dict[str, bool | str] = {"fp32": False, "fp16": True, "bf16": "bf16"}
    return named[precision_name(train, device)]


def _values(config: Config, keys: Mapping[str, str]) -> dict[str, Any]:
    return {name: attrgetter(key)(config) for name, key in keys.items()}


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
