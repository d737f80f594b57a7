"""Embeddings of query and gallery, and their metrics under canonical names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import ReidEvaluation
from watchme.engines.osnet.data.loader import EvalSet, Images, eval_loader, raise_for
from watchme.engines.osnet.model import ReidNet
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
    """(N, D) float32 embeddings on the CPU, in the order of the crops. That of a tracklet is the mean of its images'.

    Raises:
        DataError: If an image cannot be read.
    """
    model.eval()
    parts = forward_all(model, images, config, device, precision, workers, normalize=normalize)
    features = torch.cat([part.float().cpu() for part in parts])
    if len(images.files) == len(images):
        return features
    owners = torch.tensor(images.owners)
    sums = torch.zeros(len(images), features.shape[1]).index_add_(0, owners, features)
    return sums / torch.bincount(owners, minlength=len(images))[:, None]


def forward_all(
    model: ReidNet,
    images: Images,
    config: ReidEvaluation,
    device: torch.device,
    precision: str,
    workers: int,
    *,
    normalize: bool,
    order: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """(B, D) embeddings of each batch of images, in their order or in one that is given; leaves the model's mode.

    Raises:
        DataError: If an image cannot be read.
    """
    dataset = EvalSet(images, normalize=normalize)
    loader = eval_loader(dataset, config.batch_size, workers, pin=device.type == "cuda", order=order)
    channels_last = next(model.backbone.conv1.parameters()).is_contiguous(memory_format=torch.channels_last)
    for batch in loader:
        pixels = raise_for(batch).images.to(device, non_blocking=True)
        pixels = pixels.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        dtype = _AUTOCAST.get(precision)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            features = model.embed(pixels)
            if config.flip_test:
                features = (features + model.embed(pixels.flip(3))) / 2
        yield features


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
    return compare(query, gallery, data, split, config)


def compare(query: Tensor, gallery: Tensor, data: Gallery, split: str, config: ReidEvaluation) -> Ranking:
    """Rank by embeddings that are there already: (Q, D) and (G, D) float32 on the CPU, of the crops of `data`."""
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


def metrics_of(rankings: Mapping[str, Ranking]) -> dict[str, float]:
    """The metrics of all rankings by split; of several targets also their mean, as `test/map` of `test/<target>/map`.

    A metric that is undefined (NaN) for a target is undefined in the mean.
    """
    metrics = {name: value for ranking in rankings.values() for name, value in ranking.metrics.items()}
    if len(rankings) < 2:
        return metrics
    means: dict[str, float] = {}
    for split, ranking in rankings.items():
        whole = split.partition("/")[0]
        for name, value in ranking.metrics.items():
            mean = f"{whole}{name.removeprefix(split)}"
            means[mean] = means.get(mean, 0.0) + value / len(rankings)
    return means | metrics
