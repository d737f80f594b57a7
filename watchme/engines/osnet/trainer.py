"""The training loop of OSNet: epochs of optimizer steps, validation, checkpoints; resume.py continues an older one."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from watchme.core.device import choose_compile_mode, choose_workers, out_of_memory_explained
from watchme.core.errors import ConfigError, Problem
from watchme.core.formatting import time_left
from watchme.core.interfaces import EpochEvent, Stop
from watchme.core.metric_names import is_better
from watchme.core.progress import Progress
from watchme.core.seed import restore_rng_state, rng_state
from watchme.core.step_meter import StepMeter
from watchme.core.step_profiler import StepProfiler
from watchme.engines.osnet.checkpoints import Checkpoints
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.device_batches import DeviceBatch, to_device
from watchme.engines.osnet.data.gpu_cache import GpuCache
from watchme.engines.osnet.data.loader import TrainSet, read_batches, stop_workers, train_loader
from watchme.engines.osnet.data.sampler import batches_for
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.learner import Learner
from watchme.engines.osnet.lr_scheduler import learning_rate_factor
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.train_metrics import EpochMetrics

log = logging.getLogger(__name__)

# A model and its epoch to metrics.
Validate = Callable[[ReidNet, int], dict[str, float]]
Metrics = dict[str, float]
_READ_EVERY = 50  # batches between readings of the losses, which wait for the GPU


@dataclass
class BestEpoch:
    """The best epoch so far; 0 before the first."""

    value: float = math.nan
    epoch: int = 0
    metrics: Metrics = field(default_factory=dict)


class Trainer:
    """Trains one model.

    Args:
        config: The run's config.
        model: The model, already filled with its initial weights.
        dataset: Augmented training images.
        validate: Returns `val/...` metrics of a model after an epoch; None where nothing is held out.
        emit: Passes an epoch to the callbacks, and returns their request to stop.
        weights: Folder of best.pt and last.pt.
        device: Where to train.
        precision: fp32, fp16 or bf16.
        group: The processes that train together, and this one's rank.
        steps: Reports points within an epoch, those of the leader; None: nobody listens.
        fallback: Takes what was done instead of what was asked for.

    Attributes:
        learner: The model with its loss and optimizer.
        compile_mode: A mode of torch.compile, or cudagraphs; None: neither.
        best: The best epoch so far, and its metrics.
        start: The epoch that was resumed; 0 for a new run.
        profiler: Of `train.profile`; none by default.
    """

    def __init__(
        self,
        config: Config,
        model: ReidNet,
        dataset: TrainSet,
        validate: Validate | None,
        emit: Callable[[EpochEvent], Stop | None],
        weights: Path,
        device: torch.device,
        precision: str,
        group: ProcessGroup,
        steps: StepMeter | None = None,
        fallback: Callable[[str], None] = log.warning,
    ) -> None:
        train = config.train
        self.config = config
        self.group = group
        self.validate = validate
        self.emit = emit
        self.steps = steps or StepMeter()
        self.fallback = fallback
        self.checkpoints = Checkpoints(weights, train.save_period, train.keep_last)
        self.device = device
        self.precision = precision
        self.dataset = dataset
        self.batches = batches_for(train, dataset.images.crops, group.rank, group.size)
        share = train.batch_size // group.size * config.dataset.images_per_draw * dataset.images.bytes_each
        workers = choose_workers(train.workers, device, group.size, share)
        self.loader = train_loader(dataset, self.batches, workers, train.seed, pin=device.type == "cuda")
        # CUDA graphs need batches of one size and gradients that no later step finds; with DDP they are untried.
        steady = train.accumulate == group.size == 1 and config.dataset.sample_method != "all"
        steady = steady and not train.detect_anomaly and len(dataset.images) >= train.batch_size
        planned = train.epochs * len(self.batches) if steady else 0
        self.compile_mode = choose_compile_mode(train.compile, device, planned)
        with out_of_memory_explained(device, "end what else uses it, or choose another train.device"):
            self.learner = Learner(config, model, device, precision, group, self.compile_mode, fallback)
        with out_of_memory_explained(device, "use dataset.cache=ram"):
            self.cache = self._gpu_cache() if config.dataset.cache == "gpu" else None
        # Which identities the classifier's outputs stand for, so that another split is not resumed by mistake.
        self.identities = sorted(dataset.classes)
        self.best = BestEpoch()
        self.start = 0
        self.stopped = False
        self.profiler: StepProfiler | None = None

    def run(self) -> int:
        """Train until the last epoch or a `Stop`; returns the last epoch trained."""
        epochs = self.config.train.epochs
        epoch = self.start
        try:
            with out_of_memory_explained(self.device, self._less_memory()):
                if epoch == 0 and self.validate is not None and self.group.is_leader:
                    log.info("Evaluating the initial weights")
                    self.emit(EpochEvent(0, epochs, self.validate(self.learner.evaluated, 0)))
                self.group.broadcast(None)  # until here the others wait
                while epoch < epochs and not self.stopped:
                    epoch += 1
                    metrics, timings = self.train_epoch(epoch)
                    if self.group.is_leader:
                        self._close_epoch(epoch, metrics, timings)
                    self.stopped = bool(self.group.broadcast(self.stopped))
        finally:
            stop_workers(self.loader)
        return epoch

    def _less_memory(self) -> str:
        """The keys with which a step takes less memory."""
        half = ", or set train.precision=bf16" if self.precision == "fp32" else ""
        found = "; on one GPU train.batch_size=-1 finds what fits" if self.device.type == "cuda" else ""
        return (
            f"lower train.batch_size={self.config.train.batch_size} (train.accumulate sums the gradients of several "
            f"batches){half}{found}"
        )

    def _close_epoch(self, epoch: int, metrics: Metrics, timings: Metrics) -> None:
        """Validate, report, save."""
        config, epochs = self.config, self.config.train.epochs
        started = time.perf_counter()
        if self.validate is not None and (epoch % config.train.eval_every == 0 or epoch == epochs):
            metrics |= self.validate(self.learner.evaluated, epoch)
            timings["time/eval_s"] = time.perf_counter() - started
        timings["time/epoch_s"] = timings["time/train_s"] + timings.get("time/eval_s", 0.0)
        value = metrics.get(config.objective, math.nan)
        # Without validation the last epoch is the best one that there is. Of equal ones the later is kept, as
        # ultralytics does: where a small validation set is solved, training on still helps.
        best = self.best.value
        better = self.validate is None or value == best or is_better(config.objective, value, best)
        if better:
            self.best = BestEpoch(value, epoch, dict(metrics))
        _log_epoch(epoch, epochs, metrics, timings, config.objective, better=better)
        self.stopped = self.emit(EpochEvent(epoch, epochs, metrics, timings, is_best=better)) is not None
        weights = {
            "epoch": epoch,
            "arch": config.model.name,
            "metrics": {name: float(value) for name, value in metrics.items()},
            **self.learner.weights(),
        }
        self.checkpoints.save(weights, self.state_dict(), is_best=better)

    def train_epoch(self, epoch: int) -> tuple[Metrics, Metrics]:
        """Train one epoch, counted from 1; returns its `train/...` metrics and its timings."""
        train = self.config.train
        self.batches.set_epoch(epoch)
        self.learner.start_epoch(train.open_layers if epoch <= train.fixbase_epochs else None)
        metrics = EpochMetrics([str(crop.path) for crop in self.dataset.images.crops], self.precision)
        images, waited, count = 0, 0.0, len(self.batches)
        self.steps.start_epoch()
        started = mark = time.perf_counter()
        title = f"epoch {epoch}/{train.epochs}"

        def shown() -> str:
            if self.device.type != "cuda":  # for which it would have to wait
                metrics.read()
            return f"loss {metrics.last_loss:.3f}  {speed:.0f} images/s"

        progress = Progress(title, count, "batch", note=shown)
        batches = self._device_batches()
        if self.group.is_leader:
            batches = progress.over(batches)
        if self.profiler is not None:
            batches = self.profiler.over(batches, count)
        for number, batch in enumerate(batches, start=1):
            waited += time.perf_counter() - mark
            factor = learning_rate_factor(
                self.config.scheduler, epoch - 1, train.epochs, self.config.optimizer.lr, number / count
            )
            rate = self.learner.set_learning_rate(factor)
            # The last batches of an epoch may be too few for a full sum.
            summed = min(train.accumulate, count - (number - 1) // train.accumulate * train.accumulate)
            self.learner.step(batch, metrics, update=number % train.accumulate == 0 or number == count, summed=summed)
            images += len(batch.labels) * self.group.size
            step = (epoch - 1) * count + number
            point = self.steps.count(step, len(batch.labels) * self.group.size) and self.group.is_leader
            speed = images / (time.perf_counter() - started)
            due = train.log_every and number % train.log_every == 0
            if due or point or number % _READ_EVERY == 0:
                metrics.read()
            if point:
                self.steps.report(step, metrics.last_loss, rate)
            if due and self.group.is_leader:
                text = "%s  batch %d/%d  loss %.3f  lr %.2e  %.0f images/s"
                log.info(text, title, number, count, metrics.last_loss, rate, speed)
            mark = time.perf_counter()
        metrics.read()
        seconds = time.perf_counter() - started
        timings = {
            "time/train_s": seconds,
            "perf/images_per_s": images / seconds,
            "perf/data_wait_share": waited / seconds,
        }
        return metrics.over_all(self.config.loss, self.group) | {"train/lr": rate}, timings

    def _device_batches(self) -> Iterator[DeviceBatch]:
        if self.cache is not None:
            return self.cache.batches(self.batches)
        normalize, channels_last = self.config.augmentation.normalize, self.learner.channels_last
        return to_device(read_batches(self.loader), self.device, normalize=normalize, channels_last=channels_last)

    def _gpu_cache(self) -> GpuCache:
        if self.device.type != "cuda":
            expected = f"gpu needs a CUDA GPU, and this run is on {self.device}; use ram"
            raise ConfigError([Problem("dataset.cache", expected, "'gpu'")])
        normalize, channels_last = self.config.augmentation.normalize, self.learner.channels_last
        return GpuCache(self.dataset, self.device, normalize=normalize, channels_last=channels_last)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the epoch; schedule and sampler follow from that and the seed."""
        return {
            **self.learner.state_dict(),
            "rng": rng_state(),
            "stopped": self._stop_conditions() if self.stopped else None,
            "identities": self.identities,
            "seed": self.config.train.seed,
            "batch_size": self.config.train.batch_size,
            "best": self.best.value,
            "best_epoch": self.best.epoch,
            "best_metrics": {name: float(value) for name, value in self.best.metrics.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned.

        Raises:
            RuntimeError, ValueError, KeyError: If it is of another model, loss or optimizer.
        """
        self.learner.load_state_dict(state)
        restore_rng_state(state["rng"])
        # Ended after its last epoch or an early stop: only the final evaluation is left, unless conditions changed.
        self.stopped = state["stopped"] is not None and state["stopped"] == self._stop_conditions()
        self.best = BestEpoch(float(state["best"]), int(state["best_epoch"]), dict(state["best_metrics"]))
        self._measure_best_by_objective()

    def _measure_best_by_objective(self) -> None:
        """Let the best epoch count with its value of this run's objective, which another one may have chosen."""
        objective, best = self.config.objective, self.best
        value = best.metrics.get(objective, best.value)
        if best.epoch and value != best.value and not math.isnan(value):
            self.best = replace(best, value=value)
            self.fallback(
                f"the best epoch so far, {best.epoch}, was chosen by another objective; it counts with its {objective} "
                f"of {value:.4f}"
            )

    def _stop_conditions(self) -> dict[str, Any]:
        """What an early stop depends on; a run resumed with other values trains on."""
        train = self.config.train
        return {"epochs": train.epochs, "patience": train.patience, "objective": self.config.objective}


def _log_epoch(epoch: int, epochs: int, metrics: Metrics, timings: Metrics, objective: str, *, better: bool) -> None:
    parts = [f"epoch {epoch:3d}/{epochs}", f"loss {metrics['train/loss']:.3f}"]
    if objective in metrics:
        parts.append(f"{objective} {metrics[objective]:.4f}{' *' if better else ''}")
    parts.append(f"{timings['perf/images_per_s']:.0f} images/s")
    log.info("  ".join(parts) + time_left(epoch, epochs, timings["time/epoch_s"]))
