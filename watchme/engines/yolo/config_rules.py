"""Rules of a YOLO config beyond its types, checked without ultralytics: values, folders, weights, names."""

import importlib.util
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from watchme.config.devices import device_problems
from watchme.config.suggestions import nearest, one_of
from watchme.core.errors import CheckpointError, DataError, Problem
from watchme.core.metric_names import DETECTION
from watchme.engines.yolo import arguments, data_yaml, export_formats
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.config import Config
from watchme.export.config_rules import export_problems
from watchme.io.run_lookup import folder_of

_LOSSES = ("box_loss", "cls_loss", "dfl_loss")


def check(config: Config) -> list[Problem]:
    """Return every fault of a config that can be found without ultralytics."""
    if config.mode == "check":  # only the dataset is used
        return list(_dataset(config))
    rules = [*_optimizer_rules(config), *_scheduler_rules(config), _image_size_rule(config)]
    if config.mode == "train":  # else `train` is of the run that the weights are from, maybe on another machine
        rules += _training_rules(config)
    broken = [Problem(key, expected, repr(attrgetter(key)(config))) for holds, key, expected in rules if not holds]
    return [
        *broken,
        *device_problems(config.train.device),
        *_objective(config),
        *_free_arguments(config),
        *_files(config),
        *_export(config),
        *_dataset(config),
    ]


# Whether the rule holds, the key that it is about, and what is expected there.
_Rule = tuple[bool, str, str]


def _optimizer_rules(config: Config) -> Iterator[_Rule]:
    """Values that ultralytics' optimizers can honour; it would silently ignore others."""
    optimizer, family = config.optimizer, config.model.family
    known = ", ".join(arguments.OPTIMIZERS)
    yield optimizer.name in arguments.OPTIMIZERS, "optimizer.name", f"the YOLO engine has {known}"
    if optimizer.name == "auto":
        expected = "optimizer=auto chooses it; choose an optimizer to set it"
        yield optimizer.lr == family.get("lr", {}).get("sgd", optimizer.lr), "optimizer.lr", expected
        yield optimizer.momentum == family.get("momentum", optimizer.momentum), "optimizer.momentum", expected
    for key in ("lr", "momentum", "weight_decay"):
        value = getattr(optimizer, key)
        yield value is None or 0 <= value <= 1, f"optimizer.{key}", "ultralytics takes values from 0 to 1"
    yield optimizer.beta2 in (None, 0.999), "optimizer.beta2", "ultralytics fixes it at 0.999; leave it null"
    yield optimizer.eps in (None, 1e-8), "optimizer.eps", "ultralytics fixes it at 1e-8; leave it null"
    yield optimizer.nesterov is not False, "optimizer.nesterov", "ultralytics' SGD is always Nesterov; leave it null"
    yield optimizer.dampening in (None, 0), "optimizer.dampening", "ultralytics' SGD has none; leave it null"
    yield optimizer.amsgrad is not True, "optimizer.amsgrad", "ultralytics has no AMSGrad; leave it null"
    yield optimizer.alpha in (None, 0.99), "optimizer.alpha", "ultralytics fixes it at 0.99; leave it null"


def _scheduler_rules(config: Config) -> Iterator[_Rule]:
    """Schedules that ultralytics has, and no values of other ones."""
    scheduler = config.scheduler
    if scheduler.name not in ("linear", "cosine", "constant"):
        yield False, "scheduler.name", "the YOLO engine has linear, cosine and constant"
        return
    for name in ("eta_min", "restart_epochs", "step_size", "milestones", "gamma"):
        unused = getattr(scheduler, name) is None
        yield unused, f"scheduler.{name}", f"scheduler={scheduler.name} does not use it; leave it null"
    if scheduler.name == "constant":
        expected = "a constant learning rate ends where it starts; choose scheduler=linear or cosine"
        yield scheduler.final_lr_ratio in (None, 1), "scheduler.final_lr_ratio", expected


def _image_size_rule(config: Config) -> _Rule:
    size = config.dataset.image_size
    nearest_size = max(32, round(size / 32) * 32)
    return size % 32 == 0, "dataset.image_size", f"must be a multiple of 32, e.g. {nearest_size}"


def _training_rules(config: Config) -> Iterator[_Rule]:
    """What ultralytics can train, and on which devices."""
    train = config.train
    devices = len(train.device) if isinstance(train.device, list) else 1
    yield train.eval_every == 1, "train.eval_every", "ultralytics validates after every epoch; leave it at 1"
    yield train.dropout == 0, "train.dropout", "ultralytics' detectors have no dropout; leave it at 0"
    fp32 = train.device in ("cpu", "mps")
    expected = "ultralytics trains in fp32 on this device; use auto or fp32"
    yield not fp32 or train.precision not in ("fp16", "bf16"), "train.precision", expected
    yield train.batch_size != 0, "train.batch_size", "expected >= 1, or -1 for what fits the GPU"
    yield train.nominal_batch_size != 0, "train.nominal_batch_size", "expected >= 1, or -1 for train.batch_size"
    if train.batch_size == -1:
        one_gpu = devices == 1 and train.device not in ("cpu", "mps")
        yield one_gpu, "train.batch_size", "-1 measures the memory of one GPU; give a number here"
    else:
        divisible = train.batch_size % devices == 0
        yield divisible, "train.batch_size", f"must be a multiple of the {devices} devices"
    if devices > 1:
        yield not train.rect, "train.rect", "rectangular batches are not possible on several GPUs"
        yield not train.profile, "train.profile", "looks at one process; train on one device for it"
        cloudpickle = importlib.util.find_spec("cloudpickle") is not None
        expected = "several GPUs need the package cloudpickle>=3.1.1, which ultralytics uses to start its processes"
        yield cloudpickle, "train.device", expected


def _objective(config: Config) -> Iterator[Problem]:
    names = [f"val/{name}" for name in (*DETECTION, *_LOSSES)]
    if config.mode == "evaluate":
        names += [f"{split}/{name}" for split in ("train", "test") for name in DETECTION]
    if config.objective in names:
        return
    expected = one_of(config.objective, names)
    if config.objective.startswith("test/"):
        expected = f"expected one of {', '.join(names)}; the test split is evaluated once, after selection"
    yield Problem("objective", expected, repr(config.objective))


def _free_arguments(config: Config) -> Iterator[Problem]:
    """Arguments in `model.args` that have a key of their own, that watchme sets, or that do not exist."""
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
            yield Problem(key, f"ultralytics has no such argument. {hint or f'Possible are {free}'}", repr(value))
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
        yield from _other_architecture(config)
        return
    if config.train.resume is not None:
        resume = Path(config.train.resume).expanduser()
        yield from _checkpoint("train.resume", str(resume / "weights" / "last.pt" if resume.is_dir() else resume))
        return  # the run's initial weights are no longer needed
    try:
        weights.initial_weights(config.model)
    except CheckpointError as error:
        yield Problem("model.weights", str(error), repr(config.model.weights))


def _other_architecture(config: Config) -> Iterator[Problem]:
    """A checkpoint of no run that holds another detector than the one that the run's folder and report would name."""
    path = Path(config.checkpoint or "").expanduser()
    if not path.is_file() or folder_of(path) is not None:
        return
    found, named = weights.architecture_of(path), weights.canonical(Path(config.model.name).stem)
    if found is not None and found != named and weights.is_architecture(found):
        yield Problem("model.name", f"{path} holds a {found}: say model.name={found}", repr(config.model.name))


def _checkpoint(key: str, path: str | None) -> Iterator[Problem]:
    if path is None:
        yield Problem(key, "this mode needs weights: checkpoint=<run>/weights/best.pt or any YOLO .pt file")
    elif not Path(path).expanduser().is_file():
        yield Problem(key, "no such file; give the path of a YOLO .pt file", repr(path))
    elif not path.endswith(".pt"):
        yield Problem(key, "expected a .pt file of ultralytics", repr(path))


def _export(config: Config) -> Iterator[Problem]:
    """Formats that cannot be written here, and a path that is not below the backend's folder."""
    if config.mode != "export":
        return
    export = config.export
    for name, fault in export_formats.problems_of(export.formats):
        yield Problem("export.formats", fault, repr(name))
    example = "src/infrastructure/yolo/projects/<name>/weights"
    yield from export_problems(export.formats, export.place, example, fp16=export.fp16, int8=export.int8)


def _dataset(config: Config) -> Iterator[Problem]:
    dataset = config.dataset
    if dataset.root is None:
        if dataset.demo is None:
            yield Problem("dataset.root", f"give the dataset: dataset.root=<folder>\n{data_yaml.EXPECTED}")
            return
        yield from dataset.demo.config_problems()
        return
    try:
        found = data_yaml.read_layout(Path(dataset.root), () if config.mode == "check" else required_splits(config))
    except DataError as error:
        yield Problem("dataset.root", str(error), repr(dataset.root))
        return
    try:
        found.kept_classes(dataset.classes)
    except DataError as error:
        yield Problem("dataset.classes", str(error), repr(dataset.classes))


def required_splits(config: Config) -> tuple[str, ...]:
    """Splits that a dataset must have in the config's mode."""
    if config.mode == "train" or (config.mode == "export" and config.export.int8):
        return ("train", "val")
    if config.mode == "export":
        return ("val",)
    return (config.evaluation.split,) if config.evaluation.split else ()
