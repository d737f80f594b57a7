"""Embeddings of query and gallery, and their metrics under canonical names."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from watchme.core.device import choose_precision, choose_workers, is_out_of_memory, out_of_memory_explained, use_device
from watchme.core.errors import TrainingError
from watchme.core.progress import Progress
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import Config, ReidEvaluation
from watchme.engines.osnet.data.crop_images import Gallery, Images
from watchme.engines.osnet.data.device_batches import to_device
from watchme.engines.osnet.data.loader import EvalSet, eval_loader, read_batches
from watchme.engines.osnet.model import ReidNet
from watchme.metrics.reranking import require_memory
from watchme.metrics.retrieval import RetrievalResult, evaluate_features

T = TypeVar("T")
log = logging.getLogger(__name__)

_CPU = torch.device("cpu")
_LEAST_BATCH = 16  # below, a full GPU has another cause
_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Ranking:
    """Metrics of one evaluation, and what they were computed from."""

    metrics: dict[str, float]  # `<split>/map`, `<split>/minp`, `<split>/rank<k>`
    result: RetrievalResult  # Per-query values
    query: Tensor  # (Q, D) float32 embeddings on the CPU
    gallery: Tensor  # (G, D) float32 embeddings on the CPU


class Embedder:
    """Embeds and ranks images as the config of a run says.

    Args:
        config: The run's.
        device: Where the models are.
        fallback: Takes what was done instead of what was asked for.

    Attributes:
        precision: fp32, fp16 or bf16.
        batch_size: Images in a batch; where none was asked for, half of it after the GPU was too full.
    """

    def __init__(self, config: Config, device: torch.device, fallback: Callable[[str], None] = log.warning) -> None:
        self.config = config
        self.device = device
        self._fallback = fallback
        self.precision = choose_precision(config.evaluation.precision, device, "evaluation.precision")
        self.batch_size = config.evaluation.batch_size or (512 if device.type == "cuda" else 100)
        # Not by `auto`: a whole training's validations take about as long as their compilation. Their batches are too
        # large for CUDA graphs to matter.
        asked = config.train.compile not in ("auto", "off", "cudagraphs", False)
        self._compiled: Any = torch.compile(ReidNet.embed, dynamic=False) if asked else None

    def batches(self, model: ReidNet, images: Images, order: Sequence[int] | None = None) -> Iterator[Tensor]:
        """(B, D) embeddings of each batch of images, in their order or in one that is given; leaves the model's mode.

        Raises:
            DataError: If an image cannot be read.
            TrainingError: If the GPU is full.
        """
        config, device = self.config, self.device
        use_device(device, tf32=False)
        size = self.batch_size * images.bytes_each
        workers = choose_workers(config.train.workers, device, batch_bytes=size) if images.memory is None else 0
        loader = eval_loader(EvalSet(images), self.batch_size, workers, pin=device.type == "cuda", order=order)
        channels_last = next(model.backbone.conv1.parameters()).is_contiguous(memory_format=torch.channels_last)
        normalize = config.augmentation.normalize
        dtype = _AUTOCAST.get(self.precision)
        # Batch normalisation is adapted in an order of its own, where no image may count that is not there.
        embed = model.embed if order is not None else self._embedding_of(model)
        with out_of_memory_explained(device, f"lower evaluation.batch_size={self.batch_size}"):
            read = to_device(read_batches(loader), device, normalize=normalize, channels_last=channels_last)
            for batch in Progress("embedding", len(loader), "batch").over(read):
                with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                    features = embed(batch.images)
                    if config.evaluation.flip_test:
                        features = (features + embed(batch.images.flip(3))) / 2
                yield features

    def _embedding_of(self, model: ReidNet) -> Callable[[Tensor], Tensor]:
        """What embeds a batch by a model in evaluation mode; where compiled, batches are filled up to one size."""
        if self._compiled is None:
            return model.embed_in_parts

        def embed(images: Tensor) -> Tensor:
            lacking = self.batch_size - len(images)
            filled = torch.nn.functional.pad(images, (0,) * 7 + (lacking,)) if lacking else images
            found: Tensor = self._compiled(model, filled)[: len(images)]
            return found

        return embed

    @torch.no_grad()
    def embed(self, model: ReidNet, images: Images) -> Tensor:
        """(N, D) float32 embeddings on the CPU, in the order of the crops; a tracklet's is the mean of its images'.

        Raises:
            DataError: If an image cannot be read.
            TrainingError: If the GPU is full.
        """
        model.eval()
        # Copied after the last batch, so that the GPU waits for nobody; joined there, they would need memory twice.
        parts = self.fitting(lambda: list(self.batches(model, images)))
        features = torch.cat([part.cpu() for part in parts]).float()
        if len(images.files) == len(images):
            return features
        owners = torch.tensor(images.owners)
        sums = torch.zeros(len(images), features.shape[1]).index_add_(0, owners, features)
        return sums / torch.bincount(owners, minlength=len(images))[:, None]

    def fitting(self, compute: Callable[[], T]) -> T:
        """What a function of `batches` returns; after the GPU was too full, it is called again, with smaller ones.

        Raises:
            TrainingError: If a size was asked for, or small batches do not fit either.
        """
        while True:
            try:
                return compute()
            except TrainingError as error:
                if not is_out_of_memory(error.__cause__) or not self._halve_batch():
                    raise

    def _halve_batch(self) -> bool:
        """Take smaller batches from here on, which changes no embedding; not where a size was asked for."""
        if self.config.evaluation.batch_size is not None or self.batch_size <= _LEAST_BATCH:
            return False
        self.batch_size //= 2
        self._fallback(
            f"out of memory with evaluation.batch_size={2 * self.batch_size}: {self.batch_size} from here on"
        )
        torch.cuda.empty_cache()
        return True

    def rank(self, model: ReidNet, data: Gallery, split: str) -> Ranking:
        """Evaluate a model on one split.

        Raises:
            DataError: If an image cannot be read.
            TrainingError: If the GPU is full.
            WatchmeError: If memory is too small for re-ranking; nothing is embedded then.
        """
        if self.config.evaluation.rerank:
            require_memory(len(data.query) + len(data.gallery))
        query, gallery = self.embed(model, data.query), self.embed(model, data.gallery)
        return compare(query, gallery, data, split, self.config.evaluation, self.device)


def compare(
    query: Tensor,
    gallery: Tensor,
    data: Gallery,
    split: str,
    config: ReidEvaluation,
    device: torch.device = _CPU,
) -> Ranking:
    """Rank by (Q, D) and (G, D) float32 embeddings on the CPU, of the crops of `data`; a CUDA GPU does it there."""
    ids = ids_of(data.query.crops, data.gallery.crops)
    options: dict[str, Any] = {
        "distance": config.distance,
        "normalize": config.normalize,
        "max_rank": max([20, *config.ranks]),
        "metric": config.metric,
    }
    there = device if device.type == "cuda" else _CPU
    features = query.to(there), gallery.to(there)
    result = evaluate_features(*features, *ids, **options)
    metrics = _named(result, split, config.ranks)
    if config.rerank:
        again = evaluate_features(*features, *ids, **options, rerank=True)
        metrics |= {f"{name}_reranked": value for name, value in _named(again, split, config.ranks).items()}
    if config.normalize:
        # As they were compared, for the plots.
        query, gallery = (torch.nn.functional.normalize(part, dim=1) for part in (query, gallery))
    return Ranking(metrics, result, query, gallery)


def ids_of(query: Sequence[Crop], gallery: Sequence[Crop]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(Q,) and (G,) identities, then (Q,) and (G,) cameras, as `evaluate_features` takes them."""
    return (
        torch.tensor([crop.pid for crop in query], dtype=torch.int64),
        torch.tensor([crop.pid for crop in gallery], dtype=torch.int64),
        torch.tensor([crop.cam for crop in query], dtype=torch.int64),
        torch.tensor([crop.cam for crop in gallery], dtype=torch.int64),
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
