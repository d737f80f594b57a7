"""The training loop of OSNet: one epoch after another, each of which a killed run can take up again exactly."""

import contextlib
import copy
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from tqdm import tqdm

from watchme import runtime
from watchme.checkpoint import load_checkpoint, save_checkpoint
from watchme.contract import EpochEvent, Stop
from watchme.engines.osnet.backend import ReidNet
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data import Batch, TrainSet, raise_for, train_loader
from watchme.engines.osnet.losses import ReidCriterion
from watchme.engines.osnet.optim import build_optimizer, learning_rate_factor, set_learning_rate
from watchme.engines.osnet.sampler import EpochBatches
from watchme.errors import CheckpointError, ConfigError, Problem, TrainingError
from watchme.metrics.names import is_better

log = logging.getLogger(__name__)

Evaluate = Callable[[ReidNet], dict[str, float]]
_MIXED = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


class Loop:
    """Trains one model.

    Args:
        config: The run's config.
        model: The model, already filled with its initial weights.
        dataset: Augmented training images.
        evaluate: Returns `val/...` metrics of a model; None where nothing is held out.
        emit: Tells the observers of an epoch and returns their wish to stop.
        weights: Folder of best.pt and last.pt.
        device: Where to train.
        precision: fp32, fp16 or bf16.
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
    ) -> None:
        train = config.train
        self.config = config
        self.evaluate = evaluate
        self.emit = emit
        self.weights = weights
        self.device = device
        # Its state is global to the process and remembers the last run's precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_MIXED[precision],
        )
        self.plain = model.to(device)
        if train.channels_last:
            self.plain = self.plain.to(memory_format=torch.channels_last)
        self.frozen = {name for name, value in self.plain.named_parameters() if not value.requires_grad}
        optimizer = build_optimizer(
            self.plain,
            config.optimizer,
            new_layers=[f"backbone.{layer}" for layer in train.new_layers],
            base_lr_mult=train.base_lr_mult,
        )
        self.model, self.optimizer = self.accelerator.prepare(self.plain, optimizer)
        if train.compile:
            self.model = torch.compile(self.model)
        self.criterion = ReidCriterion(config.loss)
        self.ema = copy.deepcopy(self.plain).requires_grad_(False) if train.ema_decay else None
        self.dataset = dataset
        pids = [crop.pid for crop in dataset.images.crops]
        instances = train.num_instances if train.sampler == "identity" else None
        self.batches = EpochBatches(pids, train.batch_size, instances, train.seed)
        if not self.batches.batches:
            raise ConfigError(
                [
                    Problem(
                        "train.batch_size",
                        f"the training set has {len(set(pids))} identities, fewer than the "
                        f"{train.batch_size // train.num_instances} of a batch; lower it or raise train.num_instances",
                        str(train.batch_size),
                    )
                ]
            )
        self.loader = train_loader(dataset, self.batches, train.workers, pin=device.type == "cuda")
        self.best = math.nan
        self.best_epoch = 0
        self.best_metrics: dict[str, float] = {}
        self.start = 0

    @property
    def evaluated(self) -> ReidNet:
        """The model that is evaluated and kept: the moving average where there is one."""
        return self.ema if self.ema is not None else self.plain

    def run(self) -> int:
        """Train until the last epoch or a `Stop`; returns the last epoch trained."""
        config, epochs = self.config, self.config.train.epochs
        if self.start == 0 and self.evaluate is not None:
            log.info("Evaluating the initial weights")
            self.emit(EpochEvent(0, epochs, self.evaluate(self.evaluated)))
        epoch = self.start
        for epoch in range(self.start + 1, epochs + 1):
            metrics, timings = self._epoch(epoch)
            started = time.perf_counter()
            if self.evaluate is not None and (epoch % config.train.eval_every == 0 or epoch == epochs):
                metrics |= self.evaluate(self.evaluated)
                timings["time/eval_s"] = time.perf_counter() - started
            timings["time/epoch_s"] = timings["time/train_s"] + timings.get("time/eval_s", 0.0)
            value = metrics.get(config.objective, math.nan)
            # Without validation the last epoch is the best one that there is. Of equal ones the later is kept, as
            # ultralytics does: where a small validation set is solved, training on still helps.
            better = self.evaluate is None or value == self.best or is_better(config.objective, value, self.best)
            if better:
                self.best, self.best_epoch, self.best_metrics = value, epoch, dict(metrics)
            _log_epoch(epoch, epochs, metrics, timings, config.objective, better=better)
            stop = self.emit(EpochEvent(epoch, epochs, metrics, timings, is_best=better))
            self._save(epoch, metrics, better=better)
            if stop is not None:
                break
        return epoch

    def _epoch(self, epoch: int) -> tuple[dict[str, float], dict[str, float]]:
        train = self.config.train
        self.batches.set_epoch(epoch)
        self._set_trainable(epoch)
        sums = torch.zeros(4, dtype=torch.float64)
        images = correct = 0
        waited = 0.0
        started = mark = time.perf_counter()
        count = len(self.batches)
        bar = tqdm(total=count, desc=f"epoch {epoch}/{train.epochs}", leave=False, disable=not sys.stderr.isatty())
        for number, loaded in enumerate(self.loader):
            waited += time.perf_counter() - mark
            batch = raise_for(loaded)
            rate = self.config.optimizer.lr * learning_rate_factor(
                self.config.scheduler, epoch - 1, train.epochs, self.config.optimizer.lr, (number + 1) / count
            )
            set_learning_rate(self.optimizer.optimizer, rate)
            step = (number + 1) % train.accumulate == 0 or number + 1 == count
            losses, hits = self._step(batch, step=step)
            size = len(batch.labels)
            sums += torch.tensor([float(value) * size for value in losses] + [0.0])
            correct += hits
            images += size
            bar.update()
            bar.set_postfix(loss=f"{losses[0]:.3f}", images_s=f"{images / (time.perf_counter() - started):.0f}")
            mark = time.perf_counter()
        bar.close()
        seconds = time.perf_counter() - started
        total, softmax, triplet = (float(value) / images for value in sums[:3])
        metrics = {"train/loss": total, "train/lr": rate}
        if self.config.loss.weight_x:
            metrics |= {"train/softmax_loss": softmax, "train/accuracy": correct / images}
        if self.config.loss.weight_t:
            metrics["train/triplet_loss"] = triplet
        timings = {
            "time/train_s": seconds,
            "perf/images_per_s": images / seconds,
            "perf/data_wait_share": waited / seconds,
        }
        return metrics, timings

    def _step(self, batch: Batch, *, step: bool) -> tuple[tuple[float, float, float], int]:
        """One batch forward and backward, and a step of the optimizer if asked for."""
        pixels = batch.images.to(self.device, non_blocking=True)
        if self.config.train.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        labels = batch.labels.to(self.device, non_blocking=True)
        # Processes exchange gradients only where a step follows.
        with contextlib.nullcontext() if step else self.accelerator.no_sync(self.model):
            logits, embeddings = self.model(pixels)
            parts = self.criterion(logits, embeddings, labels)
            loss = float(parts.total.detach())
            if not math.isfinite(loss):
                names = [str(self.dataset.images.crops[int(index)].path) for index in batch.indices]
                raise TrainingError(
                    f"the loss is {loss}; lower optimizer.lr, or set train.precision=fp32 or train.clip_grad_norm.\n"
                    f"    The batch: {', '.join(names)}"
                )
            self.accelerator.backward(parts.total / self.config.train.accumulate)
        if step:
            if self.config.train.clip_grad_norm is not None:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.train.clip_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._update_ema()
        hits = int((logits.argmax(1) == labels).sum())
        return (loss, float(parts.softmax), float(parts.triplet)), hits

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = self.config.train.ema_decay
        if self.ema is None or decay is None:
            return
        for average, value in zip(self.ema.state_dict().values(), self.plain.state_dict().values(), strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def _set_trainable(self, epoch: int) -> None:
        """In the first `fixbase_epochs` only `open_layers` learn; the rest is in evaluation mode, as in torchreid."""
        train = self.config.train
        self.model.train()
        fixed = epoch <= train.fixbase_epochs
        opened = ("neck.", *(f"backbone.{layer}." for layer in train.open_layers))
        for name, value in self.plain.named_parameters():
            value.requires_grad_(name not in self.frozen and (not fixed or name.startswith(opened)))
        if fixed:
            for name, module in self.plain.named_modules():
                if name and not (name + ".").startswith(opened):
                    module.training = False
        # A frozen layer's running statistics stay as they are.
        for name, module in self.plain.named_modules():
            own = [f"{name}.{parameter}" for parameter, _ in module.named_parameters(recurse=False)]
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and set(own) <= self.frozen - {"neck.bias"}:
                module.eval()

    def _save(self, epoch: int, metrics: dict[str, float], *, better: bool) -> None:
        head = {
            "epoch": epoch,
            "arch": self.config.model.name,
            "num_classes": self.plain.backbone.classifier.out_features,
            "metrics": {name: float(value) for name, value in metrics.items()},
        }
        kept = self.evaluated
        head["state_dict"] = kept.backbone.state_dict()
        if kept.neck is not None:
            head["neck"] = kept.neck.state_dict()
        if better:
            save_checkpoint(self.weights / "best.pt", head)
        full = {
            **head,
            "training": {
                "model": self.plain.state_dict(),
                "ema": self.ema.state_dict() if self.ema is not None else None,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
                "rng": runtime.rng_state(),
                "best": self.best,
                "best_epoch": self.best_epoch,
                "best_metrics": {name: float(value) for name, value in self.best_metrics.items()},
            },
        }
        save_checkpoint(self.weights / "last.pt", full)
        period = self.config.train.save_period
        if period and epoch % period == 0:
            save_checkpoint(self.weights / f"epoch{epoch:04d}.pt", full)
            for old in sorted(self.weights.glob("epoch*.pt"))[: -self.config.train.keep_last]:
                old.unlink()

    def restore(self, path: Path) -> None:
        """Take up a run where its checkpoint left it.

        Raises:
            CheckpointError: If it holds no training state, or that of another model or number of identities.
        """
        content = load_checkpoint(path)
        state: Any = content.get("training")
        if not isinstance(state, dict):
            raise CheckpointError(f"{path} holds weights alone; resume from last.pt, or use model.weights={path}")
        if int(content["epoch"]) >= self.config.train.epochs:
            raise CheckpointError(
                f"{path} is of epoch {content['epoch']} and train.epochs is {self.config.train.epochs}: nothing is "
                f"left to train. Raise train.epochs to go on."
            )
        try:
            self.plain.load_state_dict(state["model"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"] or state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} does not fit this run's model or optimizer: {error}") from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        runtime.restore_rng_state(state["rng"])
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
        self.best_metrics = dict(state["best_metrics"])
        self.start = int(content["epoch"])


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
