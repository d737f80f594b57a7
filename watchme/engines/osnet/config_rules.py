"""What is wrong with a config of this engine, found without torch: refusals, combinations, folders, files."""

from collections.abc import Iterator
from pathlib import Path

from watchme.config.devices import device_problems
from watchme.config.suggestions import one_of
from watchme.core.errors import CheckpointError, Problem
from watchme.core.metric_names import SAME_CAMERA
from watchme.engines.osnet.config import OWN_HEAD, Config, OsnetTrain, ReidDataset, ReidLoss
from watchme.engines.osnet.dataset_rules import dataset_problems
from watchme.export.config_rules import export_problems
from watchme.weights.initial import find_initial

_ADAM = ("adam", "adamw", "amsgrad", "radam")
# Keys of a shared section that only some of its names honour. Elsewhere they must be null: an option that does
# nothing is worse than none.
_OPTIMIZERS = {
    "beta2": _ADAM,
    "eps": (*_ADAM, "rmsprop"),
    "amsgrad": ("adam", "adamw"),
    "nesterov": ("sgd",),
    "dampening": ("sgd",),
    "alpha": ("rmsprop",),
}
_SCHEDULES = {
    "final_lr_ratio": ("linear", "cosine"),
    "eta_min": ("cosine_restarts",),
    "restart_epochs": ("cosine_restarts",),
    "step_size": ("single_step",),
    "milestones": ("multi_step",),
    "gamma": ("single_step", "multi_step"),
}
_METRICS = {
    "weight_m": ("circle", "arcface", "cosface", "center"),
    "metric_margin": ("circle", "arcface", "cosface"),
    "metric_scale": ("circle", "arcface", "cosface"),
    "center_rate": ("center",),
}
# What data/gpu_cache.py does not do.
_NOT_ON_GPU = ("random_patch", "color_jitter", "random_gray_scale")
_FORMATS = ("torchscript", "onnx")
_NEEDED = {"restart_epochs": "cosine_restarts", "step_size": "single_step", "milestones": "multi_step"}


def check(config: Config) -> list[Problem]:
    """Every problem of a config whose types and ranges are right."""
    if config.mode == "check":  # only the dataset is used
        return dataset_problems(config)
    problems = [*_unhonoured(config), *_selection_rules(config), *_option_rules(config)]
    if config.mode == "train":
        problems += _training_rules(config)
    problems += [*device_problems(config.train.device), *dataset_problems(config)]
    if config.mode == "export":
        problems += _export_problems(config)
    elif config.mode == "evaluate":
        if config.checkpoint != "random":
            hint = "give weights: checkpoint=<run>/weights/best.pt, or checkpoint=random for untrained ones"
            problems += _file_problems("checkpoint", config.checkpoint, hint)
    elif config.train.resume is not None:
        resume = Path(config.train.resume).expanduser()
        last = resume / "weights" / "last.pt" if resume.is_dir() else resume
        problems += _file_problems("train.resume", str(last), "give a run folder or a checkpoint")
    else:
        try:
            find_initial(config.model.weights, config.model.pretrained, "osnet", config.model.name)
        except CheckpointError as error:
            problems.append(Problem("model.weights", str(error), repr(config.model.weights)))
    return problems


def _unhonoured(config: Config) -> Iterator[Problem]:
    """Keys that do nothing with the optimizer or the schedule chosen, or that belong to YOLO."""
    optimizer, scheduler = config.optimizer, config.scheduler
    if optimizer.name == "auto":
        yield Problem("optimizer.name", "is YOLO's; name one of adam, adamw, amsgrad, sgd, ...", "'auto'")
    for section, value, known in (("optimizer", optimizer, _OPTIMIZERS), ("scheduler", scheduler, _SCHEDULES)):
        for key, names in known.items():
            found = getattr(value, key)
            # A switch that is off asks for nothing.
            asked = found is not None and found is not False and not (key == "dampening" and found == 0)
            belongs = f"does nothing with {section}={value.name}; it belongs to {', '.join(names)}. Leave it null"
            if asked and value.name not in names:
                yield Problem(f"{section}.{key}", belongs, repr(found))
    for key in ("warmup_momentum", "warmup_bias_lr"):
        found = getattr(scheduler, key)
        if found is not None:
            yield Problem(f"scheduler.{key}", "is YOLO's; leave it null", repr(found))
    for key, name in _NEEDED.items():
        found = getattr(scheduler, key)
        if scheduler.name == name and not found:
            yield Problem(f"scheduler.{key}", f"is needed by {name}", repr(found))


def _training_rules(config: Config) -> Iterator[Problem]:
    train, loss = config.train, config.loss
    yield from _batch_rules(train, config.dataset)
    pairs = "triplet" if loss.weight_t > 0 else "circle" if loss.metric == "circle" else None
    if pairs is not None and train.sampler != "identity":
        expected = f"the {pairs} loss needs several images of an identity in a batch: sampler=identity, or loss=softmax"
        yield Problem("train.sampler", expected, repr(train.sampler))
    yield from _loss_rules(loss)
    learns = loss.weight_x > 0 or loss.metric in OWN_HEAD
    if not learns and train.fixbase_epochs > 0 and train.open_layers == ["classifier"]:
        expected = "without softmax (loss.weight_x=0) the classifier learns nothing; name other open_layers"
        yield Problem("train.fixbase_epochs", expected, repr(train.fixbase_epochs))
    if config.model.keep_classifier and config.model.weights is None:
        yield Problem("model.keep_classifier", "there are no model.weights to keep it from", "True")
    if config.optimizer.nesterov and (config.optimizer.dampening or not config.optimizer.momentum):
        yield Problem("optimizer.nesterov", "needs a momentum above 0 and no dampening", "True")
    if train.sync_bn and config.dataset.load_train_targets and config.dataset.select_on_test:
        expected = "the validation would adapt batch normalisation in one process alone; select on val_identities"
        yield Problem("train.sync_bn", expected, "True")
    if train.compile == "cudagraphs":
        yield from _graph_rules(config)
    if train.precision == "fp16" and train.device == "cpu":
        yield Problem("train.precision", "fp16 needs a GPU; use auto, fp32 or bf16 on a CPU", repr(train.precision))


def _graph_rules(config: Config) -> Iterator[Problem]:
    """What CUDA graphs cannot be recorded with, see `engines/osnet/cuda_graphs.py`."""
    train = config.train
    several = isinstance(train.device, list) and len(train.device) > 1
    unfit = {
        "train.accumulate": train.accumulate > 1,
        "train.detect_anomaly": train.detect_anomaly,
        "train.processes": (train.processes or 1) > 1,
        "train.device": several or train.device in ("cpu", "mps"),
        "dataset.sample_method=all": config.dataset.sample_method == "all",
    }
    if found := ", ".join(key for key, is_unfit in unfit.items() if is_unfit):
        expected = f"cudagraphs needs one CUDA GPU, one batch a step and batches of one size, which {found} forbids"
        yield Problem("train.compile", f"{expected}; use auto or off", "'cudagraphs'")


def _process_rules(train: OsnetTrain, listed: int, processes: int) -> Iterator[Problem]:
    """Processes that the devices have a place for; `listed` counts the GPUs that train.device names."""
    if listed > 0 and processes != listed:
        expected = (
            f"each process needs a GPU, and train.device names {listed}; list them all, as [0,1], and leave it null"
        )
        yield Problem("train.processes", expected, repr(train.processes))
    if train.device == "mps" and processes > 1:
        yield Problem("train.processes", "mps has one device; several processes need GPUs or cpu", repr(processes))
    if train.sync_bn and (processes == 1 or train.device == "cpu"):
        expected = "needs several GPUs, each with a process: train.device=[0,1]"
        yield Problem("train.sync_bn", expected, "True")


def _batch_rules(train: OsnetTrain, dataset: ReidDataset) -> Iterator[Problem]:
    """Processes, and batches that can be shared out to them, to identities and to groups."""
    one = str(train.device).removeprefix("cuda:").isdigit()
    listed = len(train.device) if isinstance(train.device, list) else int(one)
    processes = train.processes or max(1, listed)
    instances = train.num_instances if train.sampler == "identity" else 1
    share = processes * instances
    yield from _process_rules(train, listed, processes)
    if train.batch_size in (0, 1):
        yield Problem("train.batch_size", "expected at least 2, or -1 for what fits one GPU", repr(train.batch_size))
    if train.batch_size == -1:
        if processes > 1 or train.device in ("cpu", "mps"):
            expected = "-1 finds what fits one CUDA GPU; name a size for several, and for cpu and mps"
            yield Problem("train.batch_size", expected, "-1")
        if dataset.tracklets and dataset.sample_method == "all":
            expected = "-1 needs batches of one size, which dataset.sample_method=all has not; name a size"
            yield Problem("train.batch_size", expected, "-1")
        return
    if train.batch_size % share != 0:
        expected = f"must be a multiple of {share}" + _factors(processes, instances)
        yield Problem("train.batch_size", expected, repr(train.batch_size))
    for sampler, key in (("domain", "num_cams"), ("dataset", "num_datasets")):
        groups = getattr(train, key) or 1
        if train.sampler == sampler and train.batch_size % groups != 0:
            yield Problem("train.batch_size", f"must be a multiple of train.{key}={groups}", repr(train.batch_size))
    if instances > 1 and train.batch_size // instances < 2:
        expected = f"a batch needs at least two identities of train.num_instances={instances} images"
        yield Problem("train.batch_size", expected, repr(train.batch_size))


def _loss_rules(loss: ReidLoss) -> Iterator[Problem]:
    name = loss.metric
    for key, names in _METRICS.items():
        found = getattr(loss, key)
        needed = f"is needed by metric={name}; loss={name} sets it as published"
        if name in names and found is None:
            yield Problem(f"loss.{key}", needed, repr(found))
        belongs = f"does nothing with loss.metric={name or 'null'}; it belongs to {', '.join(names)}. Leave it null"
        if name not in names and found is not None:
            yield Problem(f"loss.{key}", belongs, repr(found))
    separates = loss.weight_x > 0 or loss.weight_t > 0
    if not separates and name is None:
        yield Problem("loss.weight_x", "weight_x and weight_t cannot both be 0 without a loss.metric", "0")
    if not separates and name == "center":
        yield Problem(
            "loss.weight_x", "the center loss alone draws all embeddings together; give weight_x or weight_t", "0"
        )


def _factors(processes: int, instances: int) -> str:
    parts = [f"{processes} processes"] * (processes > 1) + [f"train.num_instances={instances}"] * (instances > 1)
    return f" ({' x '.join(parts)})" if parts else ""


def _selection_rules(config: Config) -> Iterator[Problem]:
    dataset, objective = config.dataset, config.objective
    split = "test" if dataset.select_on_test else "val"
    names = [f"{split}/map", f"{split}/minp", *(f"{split}/rank{k}" for k in config.evaluation.ranks)]
    if config.evaluation.rerank:
        names += [f"{name}_reranked" for name in names]
    if objective.startswith("test/") and not dataset.select_on_test:
        yield Problem(
            "objective",
            "selecting on the test split makes its numbers worthless; say dataset.select_on_test=true to do it",
            repr(objective),
        )
    # With nothing held out nothing is selected, and any name will do.
    # Validation is called val_same_camera/... where nobody is seen by two cameras, as the data will show.
    known = objective.replace(f"{SAME_CAMERA}/", "val/", 1) in names or objective.startswith(("train/", "test/"))
    if not known and (dataset.val_identities > 0 or dataset.select_on_test):
        yield Problem("objective", f"is not computed; expected one of {', '.join(names)}", repr(objective))
    if dataset.select_on_test and dataset.val_identities > 0:
        yield Problem("dataset.select_on_test", "goes with dataset.val_identities=0", "True")
    if dataset.val_identities >= 1 and dataset.val_identities % 1 != 0:
        yield Problem(
            "dataset.val_identities", "expected a share below 1 or a whole number", repr(dataset.val_identities)
        )


def _option_rules(config: Config) -> Iterator[Problem]:
    if config.mode == "train" and config.dataset.cache == "gpu":
        missing = [name for name in _NOT_ON_GPU if getattr(config.augmentation, name)]
        if missing:
            expected = f"gpu has no augmentation.{', '.join(missing)}; use ram, or set them to 0"
            yield Problem("dataset.cache", expected, "'gpu'")
        if config.train.device in ("cpu", "mps"):
            yield Problem("dataset.cache", "gpu needs a CUDA GPU; use ram", "'gpu'")
    held_out = config.dataset.val_identities > 0 or config.dataset.select_on_test
    if (
        config.mode == "train"
        and config.train.patience
        and not held_out
        and config.objective.startswith(("val/", SAME_CAMERA))
    ):
        expected = "nothing is validated with dataset.val_identities=0, so nothing can stop early; leave it 0"
        yield Problem("train.patience", expected, repr(config.train.patience))
    for key in ("erase_area", "patch_area"):
        low, high = getattr(config.augmentation, key)
        expected = "expected two shares, the first not above the second, within 0..1"
        if not 0 < low <= high < 1:
            yield Problem(f"augmentation.{key}", expected, repr([low, high]))
    drawn, every = config.evaluation.visrank_every, config.train.eval_every
    if drawn > 0 and not config.evaluation.visrank:
        yield Problem("evaluation.visrank_every", "draws nothing with visrank=0", repr(drawn))
    if drawn % every != 0:
        yield Problem(
            "evaluation.visrank_every",
            f"must be a multiple of train.eval_every={every}, as only then there is something to draw",
            repr(drawn),
        )
    if not config.evaluation.ranks:
        yield Problem("evaluation.ranks", "expected at least one rank", repr(config.evaluation.ranks))


def _export_problems(config: Config) -> Iterator[Problem]:
    export = config.export
    for name in export.formats:
        if name not in _FORMATS:
            yield Problem("export.formats", one_of(name, _FORMATS), repr(name))
    example = "src/infrastructure/osnet/client"
    yield from export_problems(export.formats, export.place, example, fp16=export.fp16, int8=export.int8)
    yield from _file_problems("checkpoint", config.checkpoint, "give checkpoint=<run>/weights/best.pt")


def _file_problems(key: str, path: str | None, hint: str) -> list[Problem]:
    if path is None:
        return [Problem(key, f"is missing; {hint}")]
    if not Path(path).expanduser().is_file():
        return [Problem(key, f"no such file; {hint}", repr(path))]
    return []
