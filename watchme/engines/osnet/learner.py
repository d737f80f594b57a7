"""One training step: the model with its loss, optimizer, mixed precision and moving average, and all their state."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator, AutocastKwargs, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import nn

from watchme.core.device import use_device
from watchme.engines.osnet.batched_gates import batch_gates
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.cuda_graphs import record_graphs
from watchme.engines.osnet.data.device_batches import DeviceBatch, uses_channels_last
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.ema import ExponentialMovingAverage
from watchme.engines.osnet.initial_weights import set_trainable
from watchme.engines.osnet.losses import ReidCriterion
from watchme.engines.osnet.lr_scheduler import set_learning_rate
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.optimizer import build_optimizer, load_optimizer_state
from watchme.engines.osnet.train_metrics import EpochMetrics

log = logging.getLogger(__name__)

_MIXED = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


class Learner:
    """What learns: a model, and all that changes it.

    Args:
        config: The run's config.
        model: Filled with its initial weights.
        device: Where to train.
        precision: fp32, fp16 or bf16.
        group: The processes that train together.
        compile_mode: A mode of torch.compile, or cudagraphs; None: neither.
        fallback: Takes the reason where graphs were not possible after all.

    Attributes:
        model: As it was given, on its device.
        steps: Of the optimizer, over all epochs.
    """

    def __init__(
        self,
        config: Config,
        model: ReidNet,
        device: torch.device,
        precision: str,
        group: ProcessGroup,
        compile_mode: str | None = None,
        fallback: Callable[[str], None] = log.warning,
    ) -> None:
        train = config.train
        self.config = config
        self.device = device
        self.group = group
        self.steps = 0
        self.channels_last = uses_channels_last(train.channels_last, device)
        self.model = model.to(device)
        batch_gates(self.model)
        if train.sync_bn:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        if self.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self._frozen = {name for name, value in self.model.named_parameters() if not value.requires_grad}
        self.classes = self.model.backbone.classifier.out_features
        self.criterion = ReidCriterion(config.loss, self.classes, self.model.feature_dim, group).to(device)
        # Its state is global to the process and remembers the last run's precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_MIXED[precision],
            # The model is on its device already; accelerate would take the first GPU whichever was asked for.
            device_placement=False,
            kwargs_handlers=[
                # During fixbase_epochs most parameters get no gradient, which the exchange must expect.
                DistributedDataParallelKwargs(find_unused_parameters=train.fixbase_epochs > 0),
                AutocastKwargs(cache_enabled=compile_mode != "cudagraphs"),
            ],
        )
        optimizer = build_optimizer(
            self.model,
            config.optimizer,
            new_layers=[f"backbone.{layer}" for layer in train.new_layers],
            base_lr_mult=train.base_lr_mult,
            proxies=list(self.criterion.parameters()),
        )
        self._wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self._forward: Callable[[torch.Tensor], Any] = self._wrapped
        self._graphs = compile_mode == "cudagraphs"
        self._recorded: list[Sequence[str] | None] = []  # the open layers that the graphs were recorded for
        self._fallback = fallback
        if compile_mode is not None and not self._graphs:
            self._wrapped = self._forward = torch.compile(self._wrapped, mode=compile_mode, dynamic=False)
        self.ema = ExponentialMovingAverage(self.model, train.ema_decay) if train.ema_decay else None
        self._normalizing: list[Any] = []  # batch normalisations that learn in this epoch, and their counters
        self._counters: list[torch.Tensor] = []

    @property
    def evaluated(self) -> ReidNet:
        """The model that is evaluated and kept: the moving average where there is one."""
        return self.model if self.ema is None else self.ema.module

    def start_epoch(self, open_layers: Sequence[str] | None) -> None:
        """Set training mode; `open_layers` are the only modules that learn, None: all do."""
        use_device(self.device, tf32=self.config.train.tf32)
        self._wrapped.train()
        set_trainable(self.model, self._frozen, open_layers)
        layers = (each for each in self.model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm))
        self._normalizing = [each for each in layers if each.training]
        self._counters = [each.num_batches_tracked for each in self._normalizing]
        if self._graphs and self._recorded != [open_layers]:
            self._record_graphs()
            self._recorded = [open_layers]

    def _record_graphs(self) -> None:
        """Let `_forward` compute by CUDA graphs; before the loader's threads begin, see `record_graphs`."""
        data, train = self.config.dataset, self.config.train
        count = train.batch_size * data.images_per_draw
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        images = torch.zeros(count, 3, data.height, data.width, device=self.device)
        self._forward = self._wrapped
        try:
            with self._uncounted():
                self._forward = record_graphs(self._wrapped, images.contiguous(memory_format=layout))
        except RuntimeError as error:  # a full GPU among them
            if train.compile != "auto":
                raise
            self._graphs = False
            first = str(error).partition("\n")[0]
            self._fallback(f"train.compile=off: CUDA graphs could not be recorded ({first})")

    def set_learning_rate(self, factor: float) -> float:
        """Set the learning rate to a factor of the initial one, and return it."""
        rate = self.config.optimizer.lr * factor
        set_learning_rate(self.optimizer.optimizer, rate)
        return rate

    def step(self, batch: DeviceBatch, metrics: EpochMetrics, *, update: bool = True, summed: int = 1) -> None:
        """One batch forward and backward, and a step of the optimizer if asked for; never waits for the GPU.

        Args:
            batch: This process's share.
            metrics: Takes the losses.
            update: Whether the gradients summed so far are enough for a step.
            summed: How many batches' gradients a step is made of; it goes by their mean.
        """
        # Processes exchange gradients only where a step follows.
        with contextlib.nullcontext() if update else self.accelerator.no_sync(self._wrapped):
            with self._counted_at_once():
                logits, embeddings, neck = self._forward(batch.images)
            parts = self.criterion(logits, embeddings, neck, batch.labels)
            self.accelerator.backward(parts.loss / summed)
        if update:
            self.group.average_gradients(self.criterion.parameters())
            if self.config.train.clip_grad_norm is not None:
                learning = [*self._wrapped.parameters(), *self.criterion.parameters()]
                self.accelerator.clip_grad_norm_(learning, self.config.train.clip_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.steps += 1
            if self.ema is not None:
                self.ema.update(self.steps)
        metrics.add(parts, logits, batch.labels, batch.indices)

    @contextlib.contextmanager
    def _counted_at_once(self) -> Iterator[None]:
        """Count a batch for all batch normalisations together, where each would add its own one."""
        with self._uncounted():
            yield
        if self._counters:
            torch._foreach_add_(self._counters, 1)

    @contextlib.contextmanager
    def _uncounted(self) -> Iterator[None]:
        for layer in self._normalizing:
            layer.num_batches_tracked = None
        try:
            yield
        finally:
            for layer, counter in zip(self._normalizing, self._counters, strict=True):
                layer.num_batches_tracked = counter

    def weights(self) -> dict[str, Any]:
        """What others need of a checkpoint: the evaluated weights in torchreid's names, and the BNNeck."""
        neck = self.evaluated.neck
        return {
            "num_classes": self.classes,
            "state_dict": self.evaluated.backbone.state_dict(),
            **({} if neck is None else {"neck": neck.state_dict()}),
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a step changes."""
        scaler = self.accelerator.scaler
        return {
            "model": self.model.state_dict(),
            "criterion": self.criterion.state_dict(),
            "steps": self.steps,
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned; without an average there, it starts from the weights."""
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"] or state["model"])
        self.criterion.load_state_dict(state.get("criterion", {}))
        load_optimizer_state(self.optimizer, state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.steps = int(state.get("steps", 0))
