"""Training metrics of an epoch, kept on the device and read now and then, so that no step waits for the GPU."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from watchme.core.errors import TrainingError
from watchme.engines.osnet.config import ReidLoss
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.losses import LossParts

# What is summed over the images of an epoch: the losses' means and the number of hits of each batch.
_NAMES = (*LossParts._fields, "hits", "images")


class EpochMetrics:
    """Sums of losses and hits over the images of an epoch.

    Args:
        paths: Name the images of a batch whose loss is not finite.
        precision: Of the training; the error of such a batch advises fp32 where it is another.
    """

    def __init__(self, paths: Sequence[str], precision: str = "fp32") -> None:
        self._paths = paths
        self._precision = precision
        self._unread: list[tuple[Tensor, ...]] = []  # scalars of each batch, on the device
        self._indices: list[Tensor] = []
        self._sums = torch.zeros(len(_NAMES), dtype=torch.float64)
        self.last_loss = math.nan

    @torch.no_grad()
    def add(self, parts: LossParts, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Note a batch of (B, classes) logits without waiting for the device; `indices` are on the CPU."""
        hits = (logits.argmax(1) == labels).sum()
        self._unread.append((*(part.detach() for part in parts), hits))
        self._indices.append(indices)

    def read(self) -> None:
        """Wait for the device, and add up the batches since the last time.

        Raises:
            TrainingError: If the loss of one was not finite.
        """
        if not self._unread:
            return
        rows = torch.stack([torch.stack([value.float() for value in row]) for row in self._unread]).cpu().double()
        for row, indices in zip(rows, self._indices, strict=True):
            self._check(float(row[0]), indices)
            *losses, hits = row.tolist()
            size = len(indices)
            self._sums += torch.tensor([*(loss * size for loss in losses), hits, size], dtype=torch.float64)
        self.last_loss = float(rows[-1, 0])
        self._unread.clear()
        self._indices.clear()

    def over_all(self, config: ReidLoss, group: ProcessGroup) -> dict[str, float]:
        """`train/...` metrics: means over the images of all processes."""
        self.read()
        sums = dict(zip(_NAMES, group.sum(self._sums).tolist(), strict=True))
        means = {name: value / sums["images"] for name, value in sums.items()}
        metrics = {"train/loss": means["loss"]}
        if config.weight_x:
            metrics |= {"train/softmax_loss": means["softmax"], "train/accuracy": means["hits"]}
        if config.weight_t:
            metrics["train/triplet_loss"] = means["triplet"]
        if config.metric:
            metrics[f"train/{config.metric}_loss"] = means["metric"]
        return metrics

    def _check(self, loss: float, indices: Tensor) -> None:
        if math.isfinite(loss):
            return
        names = [self._paths[index] for index in indices.tolist()]
        fp32 = "" if self._precision == "fp32" else "train.precision=fp32 or "
        raise TrainingError(
            f"the loss is {loss}; lower optimizer.lr, or set {fp32}train.clip_grad_norm.\n"
            f"    The batch: {', '.join(names)}"
        )
