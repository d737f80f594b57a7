"""The training loop of OSNet: one epoch after another, each of which a killed run can take up again exactly."""

import contextlib
import copy
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from tqdm import tqdm

from watchme.core.errors import TrainingError
from watchme.core.interfaces import EpochEvent, Stop
from watchme.core.metric_names import is_better
from watchme.engines.osnet import trainer_state as state
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.loader import Batch, TrainSet, raise_for, stop_workers, train_loader
from watchme.engines.osnet.data.sampler import batches_for
from watchme.engines.osnet.distributed import Team
from watchme.engines.osnet.initial_weights import set_trainable
from watchme.engines.osnet.losses import ReidCriterion
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.optim import build_optimizer, learning_rate_factor, set_learning_rate

log = logging.getLogger(__name__)

# A model and its epoch to metrics.
Evaluate = Callable[[ReidNet, int], dict[str, float]]
_MIXED = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


class Loop:
    """Trains one model.

    Args:
        config: The run's config.
        model: The model, already filled with its initial weights.
        dataset: Augmented training images.
        evaluate: Returns `val/...` metrics of a model after an epoch; None where nothing is held out.
        emit: Tells the callbacks of an epoch and returns their wish to stop.
        weights: Folder of best.pt and last.pt.
        device: Where to train.
        precision: fp32, fp16 or bf16.
        team: The processes that train together, and this one's place among them.
    """

    def __init__(
        self,
        config: Config,
        model: ReidNet,
        dataset: TrainSet,
        evaluate: Evaluate | None,
        emit: Callable[[EpochEvent], Stop | None],
        weights: Path,
        device: torch.device,
        precision: str,
        team: Team,
    ) -> None:
        train = config.train
        self.config = config
        self.team = team
        self.evaluate = evaluate
        self.emit = emit
        self.weights = weights
        self.device = device
        # Its state is global to the process and remembers the last run's precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_MIXED[precision],
            # The model is on its device already; accelerate would take the first GPU whichever was asked for.
            device_placement=False,
            # During fixbase_epochs most parameters get no gradient, which the exchange must expect.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=train.fixbase_epochs > 0)],
        )
        self.plain = model.to(device)
        if train.channels_last:
            self.plain = self.plain.to(memory_format=torch.channels_last)
        self.frozen = {name for name, value in self.plain.named_parameters() if not value.requires_grad}
        classes = self.plain.backbone.classifier.out_features
        self.criterion = ReidCriterion(config.loss, classes, self.plain.feature_dim, team).to(device)
        optimizer = build_optimizer(
            self.plain,
            config.optimizer,
            new_layers=[f"backbone.{layer}" for layer in train.new_layers],
            base_lr_mult=train.base_lr_mult,
            proxies=list(self.criterion.parameters()),
        )
        self.model, self.optimizer = self.accelerator.prepare(self.plain, optimizer)
        if train.compile:
            self.model = torch.compile(self.model)
        self.ema = copy.deepcopy(self.plain).requires_grad_(False) if train.ema_decay else None
        self.dataset = dataset
        self.batches = batches_for(train, dataset.images.crops, team.rank, team.size)
        self.loader = train_loader(dataset, self.batches, train.workers, train.seed, pin=device.type == "cuda")
        # Which identities the classifier's outputs stand for, so that another split is not resumed by mistake.
        self.identities = sorted(dataset.classes)
        self.best = math.nan
        self.best_epoch = 0
        self.best_metrics: dict[str, float] = {}
        self.start = 0
        self.steps = 0  # of the optimizer, over all epochs
        self.stopped = False

    @property
    def evaluated(self) -> ReidNet:
        """The model that is evaluated and kept: the moving average where there is one."""
        return self.ema if self.ema is not None else self.plain

    def run(self) -> int:
        """Train until the last epoch or a `Stop`; returns the last epoch trained."""
        epochs = self.config.train.epochs
        epoch = self.start
        try:
            if epoch == 0 and self.evaluate is not None and self.team.leads:
                log.info("Evaluating the initial weights")
                self.emit(EpochEvent(0, epochs, self.evaluate(self.evaluated, 0)))
            while epoch < epochs and not self.stopped:
                epoch += 1
                metrics, timings = self._epoch(epoch)
                if self.team.leads:
                    self._close_epoch(epoch, metrics, timings)
                self.stopped = bool(self.team.agree(self.stopped))
        finally:
            stop_workers(self.loader)
        return epoch

    def _close_epoch(self, epoch: int, metrics: dict[str, float], timings: dict[str, float]) -> None:
        """Evaluate, tell the house, save."""
        config, epochs = self.config, self.config.train.epochs
        started = time.perf_counter()
        if self.evaluate is not None and (epoch % config.train.eval_every == 0 or epoch == epochs):
            metrics |= self.evaluate(self.evaluated, epoch)
            timings["time/eval_s"] = time.perf_counter() - started
        timings["time/epoch_s"] = timings["time/train_s"] + timings.get("time/eval_s", 0.0)
        value = metrics.get(config.objective, math.nan)
        # Without validation the last epoch is the best one that there is. Of equal ones the later is kept, as
        # ultralytics does: where a small validation set is solved, training on still helps.
        better = self.evaluate is None or value == self.best or is_better(config.objective, value, self.best)
        if better:
            self.best, self.best_epoch, self.best_metrics = value, epoch, dict(metrics)
        _log_epoch(epoch, epochs, metrics, timings, config.objective, better=better)
        self.stopped = self.emit(EpochEvent(epoch, epochs, metrics, timings, is_best=better)) is not None
        state.save(self, epoch, metrics, better=better)

    def _epoch(self, epoch: int) -> tuple[dict[str, float], dict[str, float]]:
        train = self.config.train
        self.batches.set_epoch(epoch)
        self.model.train()
        set_trainable(self.plain, self.frozen, train.open_layers if epoch <= train.fixbase_epochs else None)
        # Sums over images: loss, softmax, triplet, metric, hits, images.
        sums = torch.zeros(6, dtype=torch.float64)
        images = 0
        waited = 0.0
        started = mark = time.perf_counter()
        count = len(self.batches)
        bar = tqdm(
            total=count,
            desc=f"epoch {epoch}/{train.epochs}",
            leave=False,
            disable=not (self.team.leads and sys.stderr.isatty()),
        )
        for number, loaded in enumerate(self.loader):
            waited += time.perf_counter() - mark
            batch = raise_for(loaded)
            rate = self.config.optimizer.lr * learning_rate_factor(
                self.config.scheduler, epoch - 1, train.epochs, self.config.optimizer.lr, (number + 1) / count
            )
            set_learning_rate(self.optimizer.optimizer, rate)
            step = (number + 1) % train.accumulate == 0 or number + 1 == count
            # The last batches of an epoch may be too few for a full sum.
            summed = min(train.accumulate, count - number // train.accumulate * train.accumulate)
            losses, hits = self._step(batch, step=step, summed=summed)
            size = len(batch.labels)
            sums += torch.tensor([*(value * size for value in losses), hits, size], dtype=torch.float64)
            images += size * self.team.size
            bar.update()
            speed = images / (time.perf_counter() - started)
            bar.set_postfix(loss=f"{losses[0]:.3f}", images_s=f"{speed:.0f}")
            if train.log_every and (number + 1) % train.log_every == 0 and self.team.leads:
                text = "epoch %d/%d  batch %d/%d  loss %.3f  lr %.2e  %.0f images/s"
                log.info(text, epoch, train.epochs, number + 1, count, losses[0], rate, speed)
            mark = time.perf_counter()
        bar.close()
        seconds = time.perf_counter() - started
        *sums_of_all, counted = self.team.total(sums).tolist()
        total, softmax, triplet, metric, accuracy = (value / counted for value in sums_of_all)
        metrics = {"train/loss": total, "train/lr": rate}
        if self.config.loss.weight_x:
            metrics |= {"train/softmax_loss": softmax, "train/accuracy": accuracy}
        if self.config.loss.weight_t:
            metrics["train/triplet_loss"] = triplet
        if self.config.loss.metric:
            metrics[f"train/{self.config.loss.metric}_loss"] = metric
        timings = {
            "time/train_s": seconds,
            "perf/images_per_s": images / seconds,
            "perf/data_wait_share": waited / seconds,
        }
        return metrics, timings

    def _step(self, batch: Batch, *, step: bool, summed: int = 1) -> tuple[tuple[float, float, float, float], int]:
        """One batch forward and backward, and a step of the optimizer if asked for.

        Args:
            batch: This process's share.
            step: Whether the gradients summed so far are enough.
            summed: How many batches' gradients a step is made of; it goes by their mean.

        Returns:
            The loss and its parts (softmax, triplet, metric), and how many images the classifier got right.
        """
        pixels = batch.images.to(self.device, non_blocking=True)
        layout = torch.channels_last if self.config.train.channels_last else torch.contiguous_format
        pixels = pixels.contiguous(memory_format=layout)
        labels = batch.labels.to(self.device, non_blocking=True)
        # Processes exchange gradients only where a step follows.
        with contextlib.nullcontext() if step else self.accelerator.no_sync(self.model):
            logits, embeddings, neck = self.model(pixels)
            parts = self.criterion(logits, embeddings, neck, labels)
            loss = float(parts.whole)
            if not math.isfinite(loss):
                names = [str(self.dataset.images.crops[int(index)].path) for index in batch.indices]
                raise TrainingError(
                    f"the loss is {loss}; lower optimizer.lr, or set train.precision=fp32 or train.clip_grad_norm.\n"
                    f"    The batch: {', '.join(names)}"
                )
            self.accelerator.backward(parts.total / summed)
        if step:
            self.criterion.synchronise()
            if self.config.train.clip_grad_norm is not None:
                learning = [*self.model.parameters(), *self.criterion.parameters()]
                self.accelerator.clip_grad_norm_(learning, self.config.train.clip_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.steps += 1
            self._update_ema()
        hits = int((logits.argmax(1) == labels).sum())
        return (loss, float(parts.softmax), float(parts.triplet), float(parts.metric)), hits

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = self.config.train.ema_decay
        if self.ema is None or decay is None:
            return
        # As in TensorFlow: a short run would otherwise be evaluated with little but its initial weights.
        decay = min(decay, (1 + self.steps) / (10 + self.steps))
        for average, value in zip(self.ema.state_dict().values(), self.plain.state_dict().values(), strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


def _log_epoch(
    epoch: int, epochs: int, metrics: dict[str, float], timings: dict[str, float], objective: str, *, better: bool
) -> None:
    parts = [f"epoch {epoch:3d}/{epochs}", f"loss {metrics['train/loss']:.3f}"]
    if objective in metrics:
        parts.append(f"{objective} {metrics[objective]:.4f}{' *' if better else ''}")
    parts.append(f"{timings['perf/images_per_s']:.0f} images/s")
    left = (epochs - epoch) * timings["time/epoch_s"]
    if left:
        parts.append(f"{left // 60:.0f} min {left % 60:02.0f} s left")
    log.info("  ".join(parts))
