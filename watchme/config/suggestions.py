"""Which key a user meant: typing slips, keys without their section, keys of the other engine and of other tools."""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any

_EVALUATE = "mode=evaluate checkpoint=<run>/weights/best.pt"
# Keys of ultralytics, torchreid, Lightning and of habit -> what they are here. Where the engines differ, the first
# text whose key the engine has is used.
_OTHER_TOOLS: dict[str, tuple[str, ...]] = {
    name: keys
    for names, keys in {
        "imgsz img image_size": ("dataset.image_size", "dataset.height and dataset.width"),
        "height": ("dataset.height", "dataset.image_size"),
        "width": ("dataset.width", "dataset.image_size"),
        "batch bs batch_size batch_size_train": ("train.batch_size",),
        "batch_size_test": ("evaluation.batch_size",),
        "max_epochs max_epoch num_epochs max_steps": ("train.epochs",),
        "lr0 learning_rate": ("optimizer.lr",),
        "lrf": ("scheduler.final_lr_ratio",),
        "wd": ("optimizer.weight_decay",),
        "optim": ("optimizer=<option>",),
        "lr_scheduler": ("scheduler=<option>",),
        "cos_lr": ("scheduler=cosine",),
        "stepsize": ("scheduler.step_size",),
        "data paths datamodule": ("dataset=<option> dataset.root=<folder>",),
        "data_dir root": ("dataset.root",),
        "name": ("hydra.run.dir=<folder>, the folder of the run",),
        "save_dir output_dir": ("hydra.run.dir=<folder>",),
        "exist_ok": ("train.resume=<run folder>; runs are never overwritten",),
        "project": ("tracker.project",),
        "logger loggers": ("tracker=tensorboard, tracker=wandb or tracker=all",),
        "wandb": ("tracker=wandb",),
        "tensorboard": ("tracker=tensorboard",),
        "amp": ("train.precision",),
        "trainer accelerator use_gpu gpu_devices gpu gpus devices": ("train.device",),
        "strategy": ("train.device=[0,1], DDP on two GPUs",),
        "check_val_every_n_epoch val_check_interval eval_freq": ("train.eval_every",),
        "gradient_clip_val": ("train.clip_grad_norm", "model.args"),
        "accumulate_grad_batches": ("train.accumulate", "train.nominal_batch_size"),
        "early_stopping": ("train.patience",),
        "callbacks": ("train.patience, early stopping; checkpoints are always written",),
        "print_freq": ("train.log_every", "a line an epoch, and one now and then within a long one;"),
        "save_freq": ("train.save_period",),
        "fixbase_epoch": ("train.fixbase_epochs",),
        "label_smooth": ("loss.label_smoothing",),
        "dist_metric": ("evaluation.distance",),
        "normalize_feature": ("evaluation.normalize",),
        "transforms augment": ("augmentation=<option>",),
        "train_sampler": ("train.sampler",),
        "config_file cfg": (
            "experiment=<option>; your own yaml goes into <folder>/experiment, with --config-dir=<folder>",
        ),
        "hparams_search": ("sweeper=<option>, with -m",),
        "n_trials": ("hydra.sweeper.n_trials=<n>, with -m",),
        "backbone model_name arch": ("model=<option>",),
        "load_weights weights": ("model.weights",),
        "test_only eval_only evaluate test": (_EVALUATE,),
        "format": ("export.formats=[<format>], with mode=export",),
        "verbose": ("hydra.verbose=true",),
        "fast_dev_run": ("debug=one_batch",),
        "limit_train_batches limit_val_batches": ("train.limit_batches",),
        "overfit_batches": ("debug=overfit",),
        "profiler": ("debug=profiler",),
        "half": ("export.fp16",),
        "num_workers": ("train.workers",),
        "pretrained": ("model.pretrained", "model.weights=<file>"),
        "ckpt_path ckpt": ("checkpoint",),
        "resume": ("train.resume",),
        "conf": ("evaluation.confidence",),
        "split": ("evaluation.split",),
        "single_cls": ("dataset.single_class",),
        "nbs": ("train.nominal_batch_size",),
        "task": (
            "dataset=<option>, which has the task; mode=train, evaluate, check, export, search, predict, find or embed",
        ),
    }.items()
    for name in names.split()
}
# Values of `mode` in other tools.
_MODES = {
    **dict.fromkeys(("val", "validate", "eval", "test"), _EVALUATE),
    **dict.fromkeys(("infer", "detect"), "mode=predict source=<pictures or a video> detector=<run>"),
    "track": "mode=predict source=<video> detector=<run> reid=<run>",
    "extract": "mode=embed source=<folder of crops> reid=<run>",
    "fit": "mode=train, the default",
    "resume": "train.resume=<run folder>",
    "tune": "python train.py -m sweeper=<option>",
}
# Values of other tools -> what is meant.
_VALUES = {
    "train.resume": {
        "True": "name the run: train.resume=outputs/<run>, or give train.resume=auto hydra.run.dir=<folder>"
    },
    "train.precision": {
        **dict.fromkeys(("16", "half", "mixed", "16-mixed", "True"), "it is fp16 here; auto looks at the hardware"),
        **dict.fromkeys(("bf16-mixed", "bfloat16"), "it is bf16 here"),
        **dict.fromkeys(("32", "full", "False"), "it is fp32 here"),
    },
    "train.batch_size": {"auto": "-1 takes what fits one GPU", "0.7": "-1 takes what fits one GPU"},
    "dataset.cache": {"True": "it is ram or disk here", "False": "it is none here"},
}
_INTERVAL = re.compile(r"([\d.eE+-]*\d)\s*(?:\.\.+|:|~|to|-)\s*(\d[\d.eE+-]*)")
# Sections in the order in which a key without its section is looked for.
_SECTIONS = ("train", "optimizer", "model", "dataset", "scheduler", "tracker", "evaluation", "loss", "augmentation")


def nearest(name: object, choices: Iterable[object], cutoff: float = 0.5) -> str | None:
    """The choice most like `name`, or None when none is near: `cutoff` is the least similarity, 1 is equality."""
    texts = [str(choice) for choice in choices]
    for text in texts:  # two letters swapped is the commonest slip, and difflib rates it low
        if sorted(text.lower()) == sorted(str(name).lower()):
            return text
    matches = get_close_matches(str(name).lower(), [text.lower() for text in texts], n=1, cutoff=cutoff)
    return next((text for text in texts if matches and text.lower() == matches[0]), None)


def one_of(value: Any, choices: Iterable[object]) -> str:
    """The choices, and those that `value` is the beginning of (yolo11: yolo11n, yolo11s, ...) or the nearest."""
    texts = [str(choice) for choice in choices]
    begins = [text for text in texts if len(str(value)) > 2 and text.startswith(str(value))]
    if len(begins) > 1:
        sizes = "nsmlx"  # of YOLO models, smallest first
        begins.sort(key=lambda text: (len(text), sizes.find(text[-1]), text))
        meant = ", ".join(begins[:-1]) + f" or {begins[-1]}"
    else:
        meant = nearest(value, texts) or ""
    return f"expected one of {', '.join(texts)}" + (f"; did you mean {meant}?" if meant else "")


def meant_value(key: str, value: object) -> str:
    """What a value in another tool's style means for a key: `16` for train.precision, `1e-3..1e-1` for a rate."""
    known = _VALUES.get(key, {}).get(str(value), "")
    if not known and isinstance(value, str) and (found := _INTERVAL.fullmatch(value)):
        return f"an interval is searched by -m '{key}=interval({found[1]},{found[2]})'"
    return known


def mode_of_another_tool(value: object) -> str | None:
    """The command that another tool's mode is here."""
    return _MODES.get(str(value).lower())


def unknown_key(name: str, path: str, names: Collection[str], keys: Collection[str] = ()) -> str:
    """What to say of a key that does not exist.

    Args:
        name: The last part of the key.
        path: The section that it was given in; empty for the top level.
        names: Keys of that section.
        keys: Every dotted key of the config.
    """
    if meant := meant_key(name, path, keys):
        return f"unknown key; it is {meant} here"
    close = nearest(name, names)
    hint = f"did you mean {path + '.' if path else ''}{close}? " if close else ""
    return f"unknown key. {hint}{path or 'the top level'} has: {', '.join(names)}"


def meant_key(name: str, path: str, keys: Collection[str]) -> str | None:
    """The key of another section, or of another tool, that is meant; None where a slip is likelier."""
    texts = () if name == "name" and path else _OTHER_TOOLS.get(name.lower().replace("-", "_"), ())
    for text in texts:
        key = text.split(" and ")[0].split("=")[0].split(",")[0]
        if not keys or key in keys or "=" in text.partition(" ")[0]:
            return text if f"{path}.{name}" != text else None
    if name == "name" and path in _SECTIONS:
        return f"{path}=<option>"
    found = [key for key in keys if key.rpartition(".")[2] == name and key.rpartition(".")[0] != path]
    ranks = {section: rank for rank, section in enumerate(_SECTIONS)}
    return min(found, key=lambda key: (ranks.get(key.split(".")[0], len(ranks)), key.count("."), key), default=None)


def key_of_another_engine(key: str, engines: Iterable[str], engine: str, keys: Collection[str]) -> str:
    """What to say of a key that other engines have and this one has not."""
    whose = " and ".join(engines)
    meant = meant_key(key.rpartition(".")[2], key.rpartition(".")[0], keys)
    instead = f"; it is {meant} here" if meant and meant != key else ""
    return f"is a key of the {whose} engine, and this run is of the {engine} engine{instead}"
