"""Losses of re-identification: softmax, batch-hard triplet, and one more metric loss.

Circle, ArcFace and CosFace are those of pytorch-metric-learning, which has no center loss.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from watchme.engines.osnet.config import OWN_HEAD, ReidLoss
from watchme.engines.osnet.distributed import ProcessGroup


class LossParts(NamedTuple):
    """Scalars, float32."""

    loss: Tensor  # the weighted sum, to differentiate
    softmax: Tensor  # its parts before weighting, without gradient; NaN where a part is not used
    triplet: Tensor  # of the batch of all processes
    metric: Tensor  # `loss.metric`; circle is of the batch of all processes, the others of this process's share


class ReidCriterion(nn.Module):
    """weight_x * softmax with label smoothing + weight_t * batch-hard triplet + weight_m * the metric loss.

    Parameters (the proxies of ArcFace and CosFace) and buffers (the centers) are the metric loss's; they belong in the
    optimizer and in checkpoints.
    """

    def __init__(self, config: ReidLoss, classes: int, feature_dim: int, group: ProcessGroup | None = None) -> None:
        super().__init__()
        self.config = config
        self.group = ProcessGroup() if group is None else group
        # Szegedy et al., CVPR 2016; the same as torchreid's CrossEntropyLoss with eps = label_smoothing.
        self.softmax = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.metric = metric_loss(config, classes, feature_dim)

    def forward(self, logits: Tensor, embeddings: Tensor, neck: Tensor, labels: Tensor) -> LossParts:
        """Compute the loss of a batch in float32.

        Args:
            logits: (B, classes).
            embeddings: (B, D), compared at test time: triplet, circle and center loss shape it.
            neck: (B, D), the classifier's input; the same without a BNNeck. ArcFace and CosFace classify it.
            labels: (B,) int64 class indices.
        """
        config = self.config
        softmax = triplet = metric = logits.new_tensor(torch.nan, dtype=torch.float32)
        if config.weight_x:
            softmax = self.softmax(logits.float(), labels)
            loss = config.weight_x * softmax
        else:
            # The classifier is not used, yet DistributedDataParallel expects all gradients.
            loss = 0.0 * logits.float().sum()
        if config.weight_t or self.metric is not None:
            # Pairs are made of the batch of all processes.
            everyone, identities = self.group.gather(embeddings.float()), self.group.gather(labels)
        if config.weight_t:
            triplet = batch_hard_triplet(everyone, identities, config.margin)
            loss = loss + config.weight_t * triplet
        if self.metric is not None:
            assert config.weight_m is not None
            if config.metric in OWN_HEAD:
                metric = self.metric(neck.float(), labels)
            elif isinstance(self.metric, CenterLoss):
                metric = self.metric(embeddings.float(), labels)
                if self.training:
                    self.metric.move(everyone, identities)
            else:
                metric = self.metric(everyone, identities)
            loss = loss + config.weight_m * metric
        return LossParts(loss, softmax.detach(), triplet.detach(), metric.detach())


def metric_loss(config: ReidLoss, classes: int, feature_dim: int) -> nn.Module | None:
    """What `loss.metric` names; None if nothing. It is called with (B, D) features and (B,) class indices."""
    if config.metric is None:
        return None
    if config.metric == "center":
        assert config.center_rate is not None
        return CenterLoss(classes, feature_dim, config.center_rate)
    from pytorch_metric_learning import losses  # takes seconds to import, and few runs use it

    margin, scale = config.metric_margin, config.metric_scale
    assert margin is not None
    built: Any
    if config.metric == "circle":  # Sun et al., CVPR 2020
        built = losses.CircleLoss(m=margin, gamma=scale)
    elif config.metric == "arcface":  # Deng et al., CVPR 2019; the library wants degrees
        built = losses.ArcFaceLoss(classes, feature_dim, margin=math.degrees(margin), scale=scale)
    else:  # Wang et al., CVPR 2018
        built = losses.CosFaceLoss(classes, feature_dim, margin=margin, scale=scale)
    assert isinstance(built, nn.Module)
    return built


class CenterLoss(nn.Module):
    """Half the squared Euclidean distance of an embedding to its identity's center (Wen et al., ECCV 2016).

    The mean over the batch, where the paper has the sum. Centers follow the paper's own rule, at the `rate` that it
    calls alpha, rather than the optimizer, whose weight decay would draw them to zero: they are buffers.
    """

    centers: Tensor

    def __init__(self, classes: int, feature_dim: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("centers", torch.zeros(classes, feature_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of (B, D) embeddings and their (B,) class indices."""
        return (embeddings - self.centers[labels]).pow(2).sum(1).mean() / 2

    @torch.no_grad()
    def move(self, embeddings: Tensor, labels: Tensor) -> None:
        """Move the centers by equation 4 of the paper: c -= rate * sum(c - x) / (1 + n) over an identity's n images."""
        classes = len(self.centers)
        counts = torch.zeros(classes, device=labels.device).index_add_(0, labels, torch.ones_like(embeddings[:, 0]))
        away = torch.zeros_like(self.centers).index_add_(0, labels, self.centers[labels] - embeddings)
        self.centers -= self.rate * away / (1 + counts[:, None])


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
