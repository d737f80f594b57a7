"""What can be wrong with a YOLO config: values that ultralytics cannot honour, folders, weights, names."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from watchme.config.type_conversion import nearest
from watchme.core.errors import CheckpointError, DataError, Problem
from watchme.core.metric_names import DETECTION
from watchme.engines.yolo import arguments, export_formats, layout
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.config import Config

_LOSSES = ("box_loss", "cls_loss", "dfl_loss")


def check(config: Config) -> list[Problem]:
    """Return every fault of a config that can be seen without ultralytics."""
    if config.mode == "check":  # only the dataset is used
        return list(_dataset(config))
    return [*_refusals(config), *_free_arguments(config), *_files(config), *_export(config), *_dataset(config)]


def _refusals(config: Config) -> Iterator[Problem]:
    """What is asked for that ultralytics cannot do, and would silently drop."""
    optimizer, scheduler, train = config.optimizer, config.scheduler, config.train
    devices = len(train.device) if isinstance(train.device, list) else 1
    automatic = optimizer.name == "auto"
    family = config.model.family
    rules: list[tuple[bool, str, str]] = [
        (
            optimizer.name not in arguments.OPTIMIZERS,
            "optimizer.name",
            f"the YOLO engine has {', '.join(arguments.OPTIMIZERS)}",
        ),
        (
            automatic and optimizer.lr != family.get("lr", {}).get("sgd", optimizer.lr),
            "optimizer.lr",
            "optimizer=auto chooses the learning rate itself; choose an optimizer to set it",
        ),
        (
            automatic and optimizer.momentum != family.get("momentum", optimizer.momentum),
            "optimizer.momentum",
            "optimizer=auto chooses the momentum itself; choose an optimizer to set it",
        ),
        (_differs(optimizer.beta2, 0.999), "optimizer.beta2", "ultralytics fixes it at 0.999; leave it null"),
        (_differs(optimizer.eps, 1e-8), "optimizer.eps", "ultralytics fixes it at 1e-8; leave it null"),
        (optimizer.nesterov is False, "optimizer.nesterov", "ultralytics' SGD is always Nesterov; leave it null"),
        (_differs(optimizer.dampening, 0.0), "optimizer.dampening", "ultralytics' SGD has none; leave it null"),
        (optimizer.amsgrad is True, "optimizer.amsgrad", "ultralytics has no AMSGrad; leave it null"),
        (_differs(optimizer.alpha, 0.99), "optimizer.alpha", "ultralytics fixes it at 0.99; leave it null"),
        (
            scheduler.name not in ("linear", "cosine", "constant"),
            "scheduler.name",
            "the YOLO engine has linear, cosine and constant",
        ),
        *(
            (getattr(scheduler, name) is not None, f"scheduler.{name}", f"the schedule {scheduler.name} has none")
            for name in ("eta_min", "restart_epochs", "step_size", "milestones", "gamma")
            if scheduler.name in ("linear", "cosine", "constant")
        ),
        (
            scheduler.name == "constant" and _differs(scheduler.final_lr_ratio, 1.0),
            "scheduler.final_lr_ratio",
            "a constant learning rate ends where it starts; choose scheduler=linear or cosine",
        ),
        (train.eval_every != 1, "train.eval_every", "ultralytics validates after every epoch; leave it at 1"),
        (train.dropout != 0, "train.dropout", "ultralytics' detectors have no dropout; leave it at 0"),
        (
            train.precision in ("fp16", "bf16") and train.device in ("cpu", "mps"),
            "train.precision",
            "ultralytics trains in fp32 there; use auto or fp32",
        ),
        (train.batch_size == 0, "train.batch_size", "expected >= 1, or -1 for what fits the GPU"),
        (
            train.batch_size == -1 and (devices > 1 or train.device == "cpu"),
            "train.batch_size",
            "-1 measures the memory of one GPU; give a number here",
        ),
        (
            train.batch_size > 0 and train.batch_size % devices != 0,
            "train.batch_size",
            f"must be a multiple of the {devices} devices",
        ),
        (train.rect and devices > 1, "train.rect", "rectangular batches are not possible on several GPUs"),
        (
            devices > 1 and importlib.util.find_spec("cloudpickle") is None,
            "train.device",
            "several GPUs need the package cloudpickle>=3.1.1, by which ultralytics starts its processes",
        ),
        (
            config.dataset.image_size % 32 != 0,
            "dataset.image_size",
            f"must be a multiple of 32, e.g. {max(32, round(config.dataset.image_size / 32) * 32)}",
        ),
    ]
    for broken, key, expected in rules:
        if broken:
            yield Problem(key, expected, _value(config, key))
    yield from _objective(config)


def _objective(config: Config) -> Iterator[Problem]:
    names = [f"val/{name}" for name in (*DETECTION, *_LOSSES)]
    if config.mode == "evaluate":
        names += [f"{split}/{name}" for split in ("train", "test") for name in DETECTION]
    if config.objective in names:
        return
    close = nearest(config.objective, names)
    hint = f"; did you mean {close}?" if close else ""
    if config.objective.startswith("test/"):
        hint = "; the test split is evaluated once, after selection"
    yield Problem("objective", f"expected one of {', '.join(names)}{hint}", repr(config.objective))


def _free_arguments(config: Config) -> Iterator[Problem]:
    """Arguments in `model.args` that have a key of their own, that would break the house, or that do not exist."""
    for name, value in config.model.args.items():
        key = f"model.args.{name}"
        if name in arguments.MAPPED:
            yield Problem(key, f"set {arguments.MAPPED[name]} instead", repr(value))
        elif name in arguments.REFUSED:
            yield Problem(key, f"cannot be set: {arguments.REFUSED[name]}", repr(value))
        elif name not in arguments.FREE:
            close = nearest(name, arguments.FREE | arguments.MAPPED.keys())
            hint = f"did you mean {arguments.MAPPED.get(close, f'model.args.{close}')}?" if close else ""
            free = ", ".join(sorted(arguments.FREE))
            yield Problem(key, f"ultralytics has no such argument. {hint or f'Free are {free}'}", repr(value))
    teacher = config.model.args.get("distill_model")
    if teacher is not None and not Path(str(teacher)).expanduser().is_file():
        yield Problem("model.args.distill_model", "no such file, and nothing is downloaded", repr(teacher))


def _files(config: Config) -> Iterator[Problem]:
    """Architecture, weights, checkpoint."""
    if not weights.is_architecture(config.model.name):
        close = nearest(config.model.name, weights.known_names())
        hint = f"; did you mean {close}?" if close else ""
        yield Problem(
            "model.name",
            f"expected a detector of ultralytics ({', '.join(sorted(weights.architectures()))}, with a scale n, s, m, "
            f"l or x where it has them), or the path of a model .yaml{hint}",
            repr(config.model.name),
        )
    if config.mode in ("evaluate", "export"):
        yield from _checkpoint("checkpoint", config.checkpoint)
        return
    if config.train.resume is not None:
        resume = Path(config.train.resume).expanduser()
        yield from _checkpoint("train.resume", str(resume / "weights" / "last.pt" if resume.is_dir() else resume))
        return  # the weights that the run started from are in the checkpoint's past
    try:
        weights.initial_model(config.model)
    except CheckpointError as error:
        key = "model.pretrained" if config.model.weights is None else "model.weights"
        yield Problem(key, str(error), _value(config, key))


def _checkpoint(key: str, path: str | None) -> Iterator[Problem]:
    if path is None:
        yield Problem(key, "this mode needs weights: checkpoint=<run>/weights/best.pt or any YOLO .pt file")
    elif not Path(path).expanduser().is_file():
        yield Problem(key, "no such file; give the path of a YOLO .pt file", repr(path))
    elif not path.endswith(".pt"):
        yield Problem(key, "expected a .pt file of ultralytics", repr(path))


def _export(config: Config) -> Iterator[Problem]:
    """Formats that cannot be made here, and where the hand-off is to be laid out."""
    if config.mode != "export":
        return
    export, place = config.export, PurePosixPath(config.export.place)
    for name, fault in export_formats.problems_of(export.formats):
        yield Problem("export.formats", fault, repr(name))
    if len(set(export.formats)) < len(export.formats):
        yield Problem("export.formats", "names a format twice", repr(export.formats))
    for key in ("fp16", "int8"):
        if getattr(export, key) and "onnx" not in export.formats:
            yield Problem(f"export.{key}", "is made of onnx: name it in export.formats", "True")
    if not export.place or place.is_absolute() or ".." in place.parts:
        expected = "expected a path below the backend's folder, e.g. src/infrastructure/yolo/projects/<name>/weights"
        yield Problem("export.place", expected, repr(export.place))


def _dataset(config: Config) -> Iterator[Problem]:
    dataset = config.dataset
    if dataset.root is None:
        if dataset.demo is None:
            yield Problem("dataset.root", f"say where the dataset lies: dataset.root=<folder>\n{layout.EXPECTED}")
            return
        for text in dataset.demo.problems():
            name, _, fault = text.partition(":")
            yield Problem(f"dataset.demo.{name}", fault.strip())
        return
    try:
        found = layout.read_layout(Path(dataset.root), () if config.mode == "check" else required_splits(config))
    except DataError as error:
        yield Problem("dataset.root", str(error), repr(dataset.root))
        return
    try:
        found.kept_classes(dataset.classes)
    except DataError as error:
        yield Problem("dataset.classes", str(error), repr(dataset.classes))


def required_splits(config: Config) -> tuple[str, ...]:
    """Splits that a dataset must have for what is to be done with it."""
    if config.mode == "train" or (config.mode == "export" and config.export.int8):
        return ("train", "val")
    if config.mode == "export":
        return ("val",)
    return (config.evaluation.split,) if config.evaluation.split else ()


def _differs(value: float | None, fixed: float) -> bool:
    return value is not None and value != fixed


def _value(config: Config, key: str) -> str:
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return repr(node)
