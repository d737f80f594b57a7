"""Losses of re-identification."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from watchme.engines.osnet.config import ReidLoss
from watchme.engines.osnet.team import Team


class LossParts(NamedTuple):
    """Scalars.

    Attributes:
        total: What to differentiate: averaged over a team's processes its gradient is that of the whole batch.
        whole: The loss, weighted and without gradient.
        softmax: Its parts before weighting, of this process's share of the batch; NaN where a part is not used.
        triplet: Of the team's whole batch.
    """

    total: Tensor
    whole: Tensor
    softmax: Tensor
    triplet: Tensor


class ReidCriterion(nn.Module):
    """weight_x * softmax with label smoothing + weight_t * batch-hard triplet."""

    def __init__(self, config: ReidLoss, team: Team | None = None) -> None:
        super().__init__()
        self.config = config
        self.team = Team() if team is None else team
        # Szegedy et al., CVPR 2016; the same as torchreid's CrossEntropyLoss with eps = label_smoothing.
        self.softmax = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)

    def forward(self, logits: Tensor, embeddings: Tensor, labels: Tensor) -> LossParts:
        """Compute the loss of a batch in float32.

        Args:
            logits: (B, classes).
            embeddings: (B, D).
            labels: (B,) int64 class indices.
        """
        softmax = triplet = logits.new_tensor(torch.nan, dtype=torch.float32)
        # Without softmax the classifier takes no part, yet a team expects a gradient of every parameter.
        total = 0.0 * logits.float().sum()
        whole = total.detach()
        if self.config.weight_x:
            softmax = self.softmax(logits.float(), labels)
            total = total + self.config.weight_x * softmax
            whole = whole + self.config.weight_x * softmax.detach()
        if self.config.weight_t:
            # The hardest of the whole team's batch. Each process has the gradient of its own embeddings alone, and
            # a team averages where a sum is meant.
            everyone = self.team.gather(embeddings.float())
            triplet = batch_hard_triplet(everyone, self.team.gather(labels), self.config.margin)
            total = total + self.config.weight_t * self.team.size * triplet
            whole = whole + self.config.weight_t * triplet.detach()
        return LossParts(total, whole, softmax.detach(), triplet.detach())


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
