"""How well queries find their person in a gallery: mAP, CMC and mINP, without sorting by identity in Python.

Market-1501 protocol (Zheng et al., ICCV 2015): gallery images of the query's person from the query's own
camera are left out. CUHK03 protocol (Li et al., CVPR 2014): CMC over galleries of one random image a person.
mINP: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook" (AGW), TPAMI 2021.

A metric depends only on the ranks of the true matches, and such a rank follows from the number of other people's
images that come before it. Counting these is several times cheaper than ordering the gallery.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from watchme.metrics.distance import Distance, checked_features, distance_chunks
from watchme.metrics.ranks import Identities, match_ranks, single_shot_ranks
from watchme.metrics.reranking import reranked_chunks

Metric = Literal["market1501", "cuhk03"]
Floats = npt.NDArray[np.float64]

CHUNK_BYTES = 64 * 2**20
SINGLE_SHOT_REPEATS = 10


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """Retrieval quality over Q queries. What is undefined is NaN: a query without a match has no score."""

    map: float  # mean average precision over the valid queries, in [0, 1]; NaN when none is valid
    minp: float  # mean inverse negative penalty over the valid queries, in [0, 1]; NaN when none is valid
    cmc: Floats  # (max_rank,) share of valid queries with a match among the first k, at index k - 1
    average_precision: Floats  # (Q,) per query
    inverse_negative_penalty: Floats  # (Q,) number of matches / 1-based rank of the last one, per query
    first_match_rank: Floats  # (Q,) 1-based rank of the first match in the whole gallery, per query
    num_valid_queries: int  # queries with at least one match that is not of their own camera

    def rank(self, k: int) -> float:
        """CMC at rank k: the share of valid queries with a match among the first k.

        Raises:
            ValueError: k is outside 1..max_rank.
        """
        if not 1 <= k <= len(self.cmc):
            raise ValueError(f"rank {k} was not computed: choose 1 to {len(self.cmc)}, or a larger max_rank")
        return float(self.cmc[k - 1])


def evaluate_features(
    query: Tensor,
    gallery: Tensor,
    query_pids: Any,
    gallery_pids: Any,
    query_cams: Any,
    gallery_cams: Any,
    *,
    distance: Distance = "euclidean",
    normalize: bool = False,
    max_rank: int = 50,
    metric: Metric = "market1501",
    rerank: bool = False,
    seed: int | np.random.RandomState = 0,
    chunk_bytes: int = CHUNK_BYTES,
) -> RetrievalResult:
    """Retrieval quality of embeddings; the Q x G distance matrix never exists as a whole.

    Equal distances are in the order of ``numpy.argsort`` with its default kind, which gives torchreid's figures; it is
    deterministic, but differs between CPU families.

    Args:
        query: (Q, D) floating-point features; half precision is computed in float32.
        gallery: (G, D) features on the same device.
        query_pids: (Q,) person identities, an integer tensor, array or sequence.
        gallery_pids: (G,) person identities.
        query_cams: (Q,) camera numbers.
        gallery_cams: (G,) camera numbers.
        distance: ``"euclidean"`` (squared) or ``"cosine"``, see ``pairwise_distance``.
        normalize: L2-normalise the features first.
        max_rank: length of the CMC curve. Beyond the gallery's size the curve stays level.
        metric: ``"market1501"``, or ``"cuhk03"``: CMC over 10 random single-shot galleries a query (mAP and
            mINP stay those of the whole gallery, as in torchreid).
        rerank: by k-reciprocal neighbours, see ``reranked_chunks``.
        seed: random choices of ``"cuhk03"``; seed s gives those of torchreid after ``np.random.seed(s)``.
        chunk_bytes: about how much memory to use above the features. The result does not depend on it.

    Returns:
        The scores, as plain numbers and float64 arrays.

    Raises:
        ValueError: empty, mismatched, non-float or non-finite features (with the count of rows), identities
            that do not fit them, or an unknown option.
    """
    query, gallery = checked_features(query, gallery, normalize=normalize)
    identities = Identities.of(query_pids, gallery_pids, query_cams, gallery_cams, len(query), len(gallery))
    rows = _rows_per_chunk(identities, query.dtype, chunk_bytes)
    chunks = reranked_chunks if rerank else distance_chunks
    blocks = chunks(query, gallery, distance, rows)
    return evaluate_blocks(blocks, identities, max_rank, metric, seed)


def _rows_per_chunk(identities: Identities, dtype: torch.dtype, chunk_bytes: int) -> int:
    """Queries that fit in chunk_bytes: distances, their sorted copy on a GPU, and the tables of the matches."""
    size = 8 if dtype == torch.float64 else 4
    return chunk_bytes // (2 * size * len(identities.gallery_pids) + 96 * identities.most_matches)


def evaluate_blocks(
    blocks: Iterable[Tensor], identities: Identities, max_rank: int, metric: Metric, seed: int | np.random.RandomState
) -> RetrievalResult:
    """Scores from consecutive row blocks of the distance matrix."""
    if metric not in get_args(Metric):
        raise ValueError(f"unknown metric {metric!r}: choose one of {', '.join(get_args(Metric))}")
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")

    total = len(identities.query_pids)
    precision, penalty, first = (np.full(total, np.nan) for _ in range(3))
    hits = np.zeros(max_rank)
    random = seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)
    start = 0
    for block in blocks:
        ranks, valid = match_ranks(block, identities, start)
        found = np.flatnonzero(valid.any(axis=1))
        ranks, valid = ranks[found], valid[found]
        queries = start + found
        matches = valid.sum(axis=1)
        # The i-th match at rank r has precision i / r.
        precision[queries] = np.where(valid, valid.cumsum(axis=1) / ranks, 0).sum(axis=1) / matches
        penalty[queries] = matches / np.where(valid, ranks, 0).max(axis=1, initial=0)
        first[queries] = np.where(valid, ranks, np.iinfo(ranks.dtype).max).min(axis=1, initial=2**62)
        if metric == "market1501":
            hits += _histogram(first[queries], max_rank)
        else:
            for row in found.tolist():
                shots = single_shot_ranks(block[row], identities, start + row, random, SINGLE_SHOT_REPEATS)
                hits += _histogram(shots, max_rank) / SINGLE_SHOT_REPEATS
        start += len(block)

    count = int(np.isfinite(first).sum())
    return RetrievalResult(
        map=float(np.nansum(precision) / count) if count else float("nan"),
        minp=float(np.nansum(penalty) / count) if count else float("nan"),
        cmc=hits.cumsum() / count if count else np.full(max_rank, np.nan),
        average_precision=precision,
        inverse_negative_penalty=penalty,
        first_match_rank=first,
        num_valid_queries=count,
    )


def _histogram(ranks: npt.NDArray[Any], max_rank: int) -> Floats:
    """How many of the 1-based ranks are 1, 2, ... max_rank."""
    within = ranks[ranks <= max_rank].astype(np.int64)
    return np.bincount(within - 1, minlength=max_rank).astype(np.float64)
