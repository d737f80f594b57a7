"""AdaBN: batch-norm statistics adapted to a target dataset, from its images without labels."""

import copy

import numpy as np
import torch
from torch import nn

from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.embed_and_rank import Embedder
from watchme.engines.osnet.model import ReidNet


@torch.no_grad()
def adapt_batch_norm(model: ReidNet, images: Images, embedder: Embedder) -> ReidNet:
    """A copy whose batch normalisation has the statistics of some images instead of those of training.

    AdaBN, Li et al., Revisiting Batch Normalization for Practical Domain Adaptation, 2016: mean and variance of each
    layer over the target's images; all learned weights stay. The statistics are the mean over batches of
    `evaluation.batch_size`, or of what fits the GPU where that is null, in a shuffled order (neighbours in a list are
    alike) that is always the same; images of an incomplete last batch are left out. Identities of the images are not
    used.
    """
    return embedder.fitting(lambda: _adapted(model, images, embedder))


def _adapted(model: ReidNet, images: Images, embedder: Embedder) -> ReidNet:
    adapted = copy.deepcopy(model).eval()
    layers = [layer for layer in adapted.backbone.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over batches
        layer.train()
    order = np.random.default_rng(0).permutation(len(images.files)).tolist()
    batch_size = embedder.batch_size
    if len(order) > batch_size:
        order = order[: len(order) // batch_size * batch_size]
    for _ in embedder.batches(adapted, images, order):
        pass
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return adapted.eval()
