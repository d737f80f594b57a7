"""mode=train of an OSNet: data, model, trainer; then the best weights on the test split."""

import dataclasses
import functools
import logging
import math
import shutil
from pathlib import Path
from typing import Any, cast

import torch

from watchme.core import device as runtime
from watchme.core.errors import ConfigError, Problem
from watchme.core.interfaces import Job, Result
from watchme.core.metric_names import measured_objective
from watchme.core.seed import seed_everything
from watchme.core.step_meter import StepMeter
from watchme.core.step_profiler import StepProfiler, anomalies_detected
from watchme.engines.osnet.batch_size import find_batch_size, resumed_batch_size
from watchme.engines.osnet.check import check_briefly
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.data_module import ReidData, read_run
from watchme.engines.osnet.ddp_processes import spawn_followers
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.evaluate import Evaluator
from watchme.engines.osnet.initial_weights import freeze, load_weights
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.resume import checkpoint_of, precision_before, resume
from watchme.engines.osnet.state_dict import state_of
from watchme.engines.osnet.trainer import Trainer
from watchme.io.checkpoint import load_checkpoint
from watchme.weights.initial import find_initial

log = logging.getLogger(__name__)


def train(job: Job) -> Result:
    """Train, select on held-out identities, evaluate the test split once."""
    config = cast(Config, job.config)
    devices = runtime.choose_devices(config.train.device, config.train.processes, job.fallback)
    _require_gpu(config, devices[0])
    run = _Run(job, devices[0])
    job.record(
        "device",
        {
            "devices": [str(device) for device in devices],
            "precision": run.precision,
            "tf32": config.train.tf32 and run.precision == "fp32" and devices[0].type == "cuda",
            "evaluation_precision": run.evaluator.embedder.precision,
            "deterministic": runtime.choose_deterministic(config.train.deterministic, devices[0]),
        },
    )
    if config.check.before_training:
        check_briefly(job, run.data.datasets)
        run.data.require_readable_tests()
    run.data.require_memory_for_tests()
    run.prepare()
    with spawn_followers(devices, functools.partial(_follow, config, job.folder)) as group:
        trainer = run.trainer(group)
        if config.train.profile:
            trainer.profiler = StepProfiler(job.folder, on_gpu=run.device.type == "cuda")
        with anomalies_detected(config.train.detect_anomaly):
            last = trainer.run()
    if trainer.profiler is not None and trainer.profiler.table is not None:
        job.show(trainer.profiler.table)
    return run.finish(trainer, last)


def _require_gpu(config: Config, device: torch.device) -> None:
    """Refuse what train.device=auto can only do where it finds a GPU."""
    if device.type == "cuda":
        return
    problems = []
    if config.train.sync_bn:
        expected = f"torch synchronises batch normalisation between GPUs only, and this run is on {device}"
        problems.append(Problem("train.sync_bn", expected, "True"))
    if config.train.batch_size == -1 and config.train.resume is None:
        expected = f"-1 measures a GPU's memory, and this run is on {device}; name a size, e.g. 32"
        problems.append(Problem("train.batch_size", expected, "-1"))
    if problems:
        raise ConfigError(problems)


def _follow(config: Config, folder: Path, group: ProcessGroup, device: torch.device) -> None:
    """Train in another process than the leader's, which alone evaluates and reports."""
    run = _Run(Job(config, folder), device, evaluates=False)
    run.prepare()
    with anomalies_detected(run.config.train.detect_anomaly):
        run.trainer(group).run()


class _Run:
    """One process of a training.

    Args:
        job: The run; nobody listens to that of another process than the leader's.
        device: Where this process computes.
        evaluates: Whether it evaluates.
    """

    def __init__(self, job: Job, device: torch.device, *, evaluates: bool = True) -> None:
        self.job = job
        self.config = cast(Config, job.config)
        self.device = device
        train = self.config.train
        self.precision = _choose_precision(job, device)
        deterministic = runtime.choose_deterministic(train.deterministic, device)
        seed_everything(train.seed, deterministic=deterministic)
        self.data = ReidData(job, read_run(job), evaluates=evaluates)
        self.evaluator = Evaluator(job, device)

    def prepare(self) -> None:
        """Assemble the splits and build the model, before it is known which processes train it."""
        self.dataset, self.val = self.data.train_and_val()
        metric = self.config.objective.rpartition("/")[2]
        objective = measured_objective("train", self.config.objective, [f"{split}/{metric}" for split in self.val])
        self.config = dataclasses.replace(self.config, objective=objective)
        crops, classes = self.dataset.images.crops, len(self.dataset.classes)
        self.model = _build_model(self.job, self.config, classes)
        if self.config.train.batch_size == -1:
            self._fit_batch_size()
        kind = "tracklets" if self.config.dataset.tracklets else "images"
        text = "%d training %s of %d identities on %s, %s"
        log.info(text, len(crops), kind, classes, self.device, self.precision)

    def _fit_batch_size(self) -> None:
        train = self.config.train
        if train.resume is None:
            size = find_batch_size(self.config, self.model, self.dataset, self.device, self.precision)
        else:
            size = resumed_batch_size(load_checkpoint(checkpoint_of(Path(train.resume).expanduser())))
        self.config = dataclasses.replace(self.config, train=dataclasses.replace(train, batch_size=size))
        self.job.record("batch_size", size)

    def trainer(self, group: ProcessGroup) -> Trainer:
        """A trainer, resumed if the config asks for it."""
        group.wait_for_all()  # others may still read their data, and DistributedDataParallel waits for minutes only
        validate = functools.partial(self.evaluator.validate, self.val, self.data) if self.val else None
        trainer = Trainer(
            self.config,
            self.model,
            self.dataset,
            validate,
            self.job.emit,
            self.job.folder / "weights",
            self.device,
            self.precision,
            group,
            StepMeter(self.job.step_every, self.job.step),
            self.job.fallback,
        )
        self.job.record("compile", trainer.compile_mode or "off")
        if self.config.train.resume is not None:
            resume(trainer, Path(self.config.train.resume).expanduser())
            self.job.resumed(trainer.start)
        self.job.begin()
        return trainer

    def finish(self, trainer: Trainer, last: int) -> Result:
        """Evaluate the best weights on the test splits."""
        config, best, folder = self.config, trainer.best, self.job.folder / "weights"
        weights = {name: folder / f"{name}.pt" for name in ("best", "last")}
        best_epoch = best.epoch
        if not weights["best"].is_file():
            self.job.fallback(f"{config.objective} was never computed, so the last epoch counts as the best")
            shutil.copy(weights["last"], weights["best"])
            best_epoch = last
        model = ReidNet(config.model.name, trainer.learner.classes, bnneck=config.model.bnneck)
        content = load_checkpoint(weights["best"])
        model.backbone.load_state_dict(state_of(content, weights["best"]))
        metrics = best.metrics | self.evaluator.test(model, self.data)
        weights |= self.evaluator.save_adapted(content, folder)
        details = self._calibrate(model)
        return Result(metrics, metrics.get(config.objective, math.nan), best_epoch, last, weights, details)

    def _calibrate(self, model: ReidNet) -> dict[str, Any]:
        if self.config.dataset.val_identities and self.val:
            return self.evaluator.calibrate(self.val, model)
        if not self.data.test_splits:
            self.job.fallback("no identities are held out and nothing is tested, so similarities are not calibrated")
            return {}
        self.job.fallback("no identities are held out, so similarities are calibrated on the test split")
        return self.evaluator.calibrate(self.data.test_splits)


def _choose_precision(job: Job, device: torch.device) -> str:
    """That of train.precision; a resumed run keeps what `auto` has been for it, where the kind of device allows it."""
    train = job.config.train
    if train.precision == "auto" and train.detect_anomaly:
        return "fp32"
    chosen = runtime.choose_precision(train.precision, device)
    if train.precision != "auto" or train.resume is None:
        return chosen
    before, kind = precision_before(Path(train.resume).expanduser())
    if before in (None, chosen):
        return chosen
    if kind == device.type:
        job.fallback(f"train.precision=auto stays {before}, in which the run began; a new one takes {chosen} here")
        return before
    job.fallback(f"train.precision=auto was {before} on {kind} and is {chosen} on {device}: the numbers will differ")
    return chosen


def _build_model(job: Job, config: Config, identities: int) -> ReidNet:
    """The model with its initial weights and a classifier for the training identities."""
    wanted = config.model.num_classes
    if wanted is not None and wanted < identities:
        expected = f"the training set has {identities} identities; null fits it"
        raise ConfigError([Problem("model.num_classes", expected, str(wanted))])
    if wanted is not None and wanted > identities:
        log.info("The classifier has %d outputs for %d identities (model.num_classes)", wanted, identities)
    model = ReidNet(config.model.name, wanted or identities, bnneck=config.model.bnneck)
    chosen = config.model
    initial = find_initial(chosen.weights, chosen.pretrained, chosen.engine, chosen.name)
    if initial is not None:
        match = load_weights(
            model.backbone,
            initial.fetch(),
            keep_classifier=chosen.keep_classifier,
            min_matched=chosen.min_matched,
        )
        job.record("initial_tensors", {"loaded": len(match.loaded), "missing": match.missing})
    freeze(model.backbone, config.model.freeze)
    return model
