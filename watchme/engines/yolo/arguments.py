"""Config -> ultralytics' arguments: one pure function, and what becomes of every argument that ultralytics has.

Each key of ultralytics' default.yaml is in exactly one of MAPPED (ours under another name), FREE (reachable through
`model.args`) or REFUSED (with the reason); a test walks them all.
"""

from typing import TYPE_CHECKING, Any

from watchme.errors import Problem

if TYPE_CHECKING:
    from watchme.engines.yolo.config import Config

_OPTIMIZERS = {"auto": "auto", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSProp", "radam": "RAdam"}
_AUGMENTATIONS = (
    "hsv_h hsv_s hsv_v degrees translate scale shear perspective flipud fliplr bgr mosaic mixup cutmix copy_paste "
    "copy_paste_mode close_mosaic multi_scale"
).split()

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
    "time cls_remap profile channels_last save_json quantize nms agnostic_nms distill_model dis visualize save_txt "
    "save_conf show_labels show_conf show_boxes line_width dropout".split()
)

_TASK = "it belongs to another task than detection"
_PREDICT = "it belongs to prediction or export, not to training and evaluation"
REFUSED: dict[str, str] = {
    "task": "watchme's YOLO engine detects",
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


def training_arguments(config: "Config", *, model: str, data: str, save_dir: str, device: str) -> dict[str, Any]:
    """Return the overrides for ultralytics' trainer.

    Args:
        config: The run's config.
        model: Model file: a .yaml (from scratch) or .pt.
        data: The data.yaml to train on.
        save_dir: Where ultralytics writes its own files, below the run folder.
        device: In ultralytics' spelling: cpu, mps, 0, 0,1.

    Returns:
        Every argument that `MAPPED` names, plus `model.args`.
    """
    train, scheduler, dataset = config.train, config.scheduler, config.dataset
    return {
        "task": "detect",
        "mode": "train",
        "model": model,
        "data": data,
        "save_dir": save_dir,
        "device": device,
        "pretrained": config.model.weights is not None,
        "epochs": train.epochs,
        "batch": train.batch_size,
        "nbs": train.nominal_batch_size,
        "workers": train.workers,
        "seed": train.seed,
        "deterministic": train.deterministic,
        "save_period": train.save_period or -1,
        # Early stopping is the house's observer, the same for every engine; 0 turns ultralytics' own off.
        "patience": 0,
        "rect": train.rect,
        "freeze": train.freeze,
        "compile": train.compile,
        "amp": precision(train.precision, device),
        "imgsz": dataset.image_size,
        "cache": False if dataset.cache == "none" else dataset.cache,
        "single_cls": dataset.single_class,
        "fraction": dataset.fraction,
        "optimizer": _OPTIMIZERS[config.optimizer.name],
        "lr0": config.optimizer.lr,
        "momentum": config.optimizer.momentum,
        "weight_decay": config.optimizer.weight_decay,
        "cos_lr": scheduler.name == "cosine",
        # A constant rate is the linear schedule that ends where it starts.
        "lrf": 1.0 if scheduler.name == "constant" else _or(scheduler.final_lr_ratio, 0.01),
        "warmup_epochs": scheduler.warmup_epochs,
        "warmup_momentum": _or(scheduler.warmup_momentum, 0.8),
        "warmup_bias_lr": _or(scheduler.warmup_bias_lr, 0.1),
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


def evaluation_arguments(config: "Config") -> dict[str, Any]:
    """Return what training's validation and a later evaluation have in common."""
    return {
        "conf": config.evaluation.confidence,
        "iou": config.evaluation.iou,
        "max_det": config.evaluation.max_detections,
        "augment": config.evaluation.augment,
        "plots": config.evaluation.plots,
    }


def precision(name: str, device: str) -> bool | str:
    """`train.precision` as ultralytics' `amp`: mixed precision only where a GPU is."""
    if name == "auto":
        return device not in ("cpu", "mps")
    return {"fp32": False, "fp16": True, "bf16": "bf16"}[name]


def refusals(config: "Config") -> list[Problem]:
    """Return what is asked for that ultralytics cannot do, and arguments that must not go past our config."""
    rules: list[tuple[bool, str, str]] = [
        (config.optimizer.name not in _OPTIMIZERS, "optimizer.name", f"ultralytics has {', '.join(_OPTIMIZERS)}"),
        (_set(config.optimizer.beta2, 0.999), "optimizer.beta2", "ultralytics fixes it at 0.999; leave it null"),
        (_set(config.optimizer.eps, 1e-8), "optimizer.eps", "ultralytics fixes it at 1e-8; leave it null"),
        (
            config.optimizer.nesterov is False,
            "optimizer.nesterov",
            "ultralytics' SGD is always Nesterov; leave it null",
        ),
        (_set(config.optimizer.dampening, 0.0), "optimizer.dampening", "ultralytics' SGD has none; leave it null"),
        (config.optimizer.amsgrad is True, "optimizer.amsgrad", "ultralytics has no AMSGrad; leave it null"),
        (_set(config.optimizer.alpha, 0.99), "optimizer.alpha", "ultralytics fixes it at 0.99; leave it null"),
        (
            config.scheduler.name not in ("linear", "cosine", "constant"),
            "scheduler.name",
            "the YOLO engine has linear, cosine and constant",
        ),
        (config.train.eval_every != 1, "train.eval_every", "ultralytics validates every epoch; leave it at 1"),
        (
            config.train.precision in ("fp16", "bf16") and config.train.device == "cpu",
            "train.precision",
            "ultralytics trains in fp32 on a CPU; use auto or fp32",
        ),
    ]
    problems = [Problem(key, expected, _value(config, key)) for broken, key, expected in rules if broken]
    for name, value in config.model.args.items():
        key = f"model.args.{name}"
        if name in MAPPED:
            problems.append(Problem(key, f"set {MAPPED[name]} instead", repr(value)))
        elif name in REFUSED:
            problems.append(Problem(key, f"cannot be set: {REFUSED[name]}", repr(value)))
        elif name not in FREE:
            problems.append(Problem(key, f"ultralytics has no such argument; free are {', '.join(sorted(FREE))}"))
    return problems


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _set(value: float | None, fixed: float) -> bool:
    return value is not None and value != fixed


def _value(config: "Config", key: str) -> str:
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return repr(node)
