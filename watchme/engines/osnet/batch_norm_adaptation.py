"""Batch normalisation of a model adapted to where it will be used, from images without labels."""

import copy

import numpy as np
import torch
from torch import nn

from watchme.engines.osnet.config import ReidEvaluation
from watchme.engines.osnet.data.loader import Images
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.ranking import forward_all


@torch.no_grad()
def adapt_batch_norm(
    model: ReidNet,
    images: Images,
    config: ReidEvaluation,
    device: torch.device,
    precision: str,
    workers: int,
    *,
    normalize: bool,
) -> ReidNet:
    """A copy whose batch normalisation has the statistics of some images instead of those of training.

    AdaBN, Li et al., Revisiting Batch Normalization for Practical Domain Adaptation, 2016: mean and variance of each
    layer over the target's images; all learned weights stay. The statistics are the mean over batches of
    `evaluation.batch_size`, in an order that is mixed (neighbours in a list are alike) and always the same; images
    of an incomplete last batch sit out.

    Args:
        model: Is not changed.
        images: Of the target; their identities are not looked at.
        config: Its `batch_size`.
        device: Where the model is.
        precision: fp32, fp16 or bf16.
        workers: Processes that load images.
        normalize: Whether images are normalised as in training.
    """
    adapted = copy.deepcopy(model).eval()
    layers = [layer for layer in adapted.backbone.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over batches
        layer.train()
    order = np.random.default_rng(0).permutation(len(images.files)).tolist()
    if len(order) > config.batch_size:
        order = order[: len(order) // config.batch_size * config.batch_size]
    for _ in forward_all(adapted, images, config, device, precision, workers, normalize=normalize, order=order):
        pass
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return adapted.eval()
