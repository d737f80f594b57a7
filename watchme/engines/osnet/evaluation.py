"""Embeddings of query and gallery, and their metrics under canonical names."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from watchme.engines.osnet.backend import ReidNet
from watchme.engines.osnet.config import ReidEvaluation
from watchme.engines.osnet.data import EvalSet, Images, eval_loader, raise_for
from watchme.engines.osnet.market import Crop
from watchme.metrics.distance import pairwise_distance
from watchme.metrics.reranking import rerank_k_reciprocal
from watchme.metrics.retrieval import RetrievalResult, evaluate_distances, evaluate_features

_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Gallery:
    """What is looked for, and where: two lists of images."""

    query: Images
    gallery: Images


@dataclass(frozen=True)
class Ranking:
    """Metrics of one evaluation, and what they were computed from.

    Attributes:
        metrics: `<split>/map`, `<split>/minp`, `<split>/rank<k>`.
        result: Per-query values.
        query: (Q, D) float32 embeddings on the CPU.
        gallery: (G, D) float32 embeddings on the CPU.
    """

    metrics: dict[str, float]
    result: RetrievalResult
    query: Tensor
    gallery: Tensor


@torch.no_grad()
def embed(
    model: ReidNet,
    images: Images,
    config: ReidEvaluation,
    device: torch.device,
    precision: str,
    workers: int,
    *,
    normalize: bool,
) -> Tensor:
    """(N, D) float32 embeddings on the CPU, in the order of the images.

    Raises:
        DataError: If an image cannot be read.
    """
    model.eval()
    parts = []
    loader = eval_loader(EvalSet(images, normalize=normalize), config.batch_size, workers, pin=device.type == "cuda")
    channels_last = next(model.backbone.conv1.parameters()).is_contiguous(memory_format=torch.channels_last)
    for batch in loader:
        pixels = raise_for(batch).images.to(device, non_blocking=True)
        pixels = pixels.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        dtype = _AUTOCAST.get(precision)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            features = model.embed(pixels)
            if config.flip_test:
                features = (features + model.embed(pixels.flip(3))) / 2
        parts.append(features.float().cpu())
    return torch.cat(parts)


def rank(
    model: ReidNet,
    data: Gallery,
    split: str,
    config: ReidEvaluation,
    device: torch.device,
    precision: str,
    workers: int,
    *,
    normalize: bool,
) -> Ranking:
    """Evaluate a model on one split; `normalize` says whether images are normalised as in training."""
    query = embed(model, data.query, config, device, precision, workers, normalize=normalize)
    gallery = embed(model, data.gallery, config, device, precision, workers, normalize=normalize)
    ids = (*_ids(data.query.crops, data.gallery.crops),)
    most = max([20, *config.ranks])
    result = evaluate_features(
        query,
        gallery,
        *ids,
        distance=config.distance,
        normalize=config.normalize,
        max_rank=most,
        metric=config.metric,
    )
    metrics = _named(result, split, config.ranks)
    if config.normalize:
        # As they were compared, for re-ranking and for the pictures.
        query, gallery = (torch.nn.functional.normalize(part, dim=1) for part in (query, gallery))
    if config.rerank:
        pairs = ((query, gallery), (query, query), (gallery, gallery))
        distances = rerank_k_reciprocal(*(pairwise_distance(a, b, config.distance) for a, b in pairs))
        again = evaluate_distances(distances, *ids, max_rank=most, metric=config.metric)
        metrics |= {f"{name}_reranked": value for name, value in _named(again, split, config.ranks).items()}
    return Ranking(metrics, result, query, gallery)


def _ids(query: Sequence[Crop], gallery: Sequence[Crop]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.tensor([crop.pid for crop in query]),
        torch.tensor([crop.pid for crop in gallery]),
        torch.tensor([crop.cam for crop in query]),
        torch.tensor([crop.cam for crop in gallery]),
    )


def _named(result: RetrievalResult, split: str, ranks: Sequence[int]) -> dict[str, float]:
    named = {f"{split}/map": result.map, f"{split}/minp": result.minp}
    return named | {f"{split}/rank{k}": result.rank(k) for k in ranks}
