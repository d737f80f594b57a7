"""Losses of re-identification."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from watchme.engines.osnet.config import ReidLoss


class LossParts(NamedTuple):
    """Scalars: the whole loss, and its parts before weighting (NaN where a part is not used)."""

    total: Tensor
    softmax: Tensor
    triplet: Tensor


class ReidCriterion(nn.Module):
    """weight_x * softmax with label smoothing + weight_t * batch-hard triplet."""

    def __init__(self, config: ReidLoss) -> None:
        super().__init__()
        self.config = config
        # Szegedy et al., CVPR 2016; the same as torchreid's CrossEntropyLoss with eps = label_smoothing.
        self.softmax = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)

    def forward(self, logits: Tensor, embeddings: Tensor, labels: Tensor) -> LossParts:
        """Compute the loss of a batch in float32.

        Args:
            logits: (B, classes).
            embeddings: (B, D).
            labels: (B,) int64 class indices.
        """
        nan = logits.new_tensor(torch.nan, dtype=torch.float32)
        total = logits.new_zeros((), dtype=torch.float32)
        softmax = triplet = nan
        if self.config.weight_x:
            softmax = self.softmax(logits.float(), labels)
            total = total + self.config.weight_x * softmax
        if self.config.weight_t:
            triplet = batch_hard_triplet(embeddings.float(), labels, self.config.margin)
            total = total + self.config.weight_t * triplet
        return LossParts(total, softmax.detach(), triplet.detach())


def batch_hard_triplet(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Triplet loss with the farthest positive and the nearest negative of each anchor (Hermans et al., 2017).

    Equal to torchreid's TripletLoss: Euclidean distances, mean over the batch of max(0, d_pos - d_neg + margin).

    Args:
        embeddings: (B, D) float32.
        labels: (B,) int64; the batch holds at least two identities.
        margin: In the unit of the embeddings' distances.
    """
    squared = embeddings.pow(2).sum(1, keepdim=True)
    distances = torch.addmm(squared + squared.T, embeddings, embeddings.T, alpha=-2).clamp(min=1e-12).sqrt()
    same = labels[:, None] == labels[None]
    positive = distances.masked_fill(~same, -torch.inf).max(1).values
    negative = distances.masked_fill(same, torch.inf).min(1).values
    return torch.relu(positive - negative + margin).mean()
