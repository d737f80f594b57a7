"""Retrieval metrics of person re-identification: CMC, mAP, mINP. Vectorised, in chunks of queries.

Protocol of Market-1501 (Zheng et al., Scalable Person Re-identification, ICCV 2015): gallery images of the query's
identity from the query's camera are left out. mINP is from AGW (Ye et al., Deep Learning for Person
Re-identification: A Survey and Outlook, TPAMI 2021).

The rank of a match needs no sorted gallery: it is one more than the number of gallery images that are nearer. One
batched binary search places each distance among the few distances of the matches, and counting does the rest. Where
another identity has exactly the distance of a match, the order of the two is that of `numpy.argsort`, as in
torchreid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from watchme.metrics.distance import Distance, pairwise_distance

Metric = Literal["market1501", "cuhk03"]
Ids = Tensor | npt.NDArray[Any] | list[int]

# Elements of a chunk's distance matrix. The chunk, two integer matrices and masks of its shape stay below 150 MB.
_CHUNK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class RetrievalResult:
    """Metrics of a set of queries against a gallery.

    Attributes:
        map: Mean average precision; NaN when no query has a match.
        minp: Mean inverse negative penalty: (number of matches) / (rank of the last match); NaN likewise.
        cmc: (R,) float64, share of valid queries whose first match is among the first k, at index k - 1.
        average_precision: (Q,) float64, NaN where the query has no match.
        inverse_negative_penalty: (Q,) float64, NaN where the query has no match.
        first_match_rank: (Q,) float64, rank of the first match from 1, NaN where the query has none.
        num_valid_queries: Queries that have a match.
    """

    map: float
    minp: float
    cmc: npt.NDArray[np.float64]
    average_precision: npt.NDArray[np.float64]
    inverse_negative_penalty: npt.NDArray[np.float64]
    first_match_rank: npt.NDArray[np.float64]
    num_valid_queries: int

    def rank(self, k: int) -> float:
        """Rank-k accuracy; of the whole gallery where it has fewer than k images."""
        return float(self.cmc[min(k, len(self.cmc)) - 1]) if len(self.cmc) else float("nan")


def evaluate_features(
    query: Tensor,
    gallery: Tensor,
    query_pids: Ids,
    gallery_pids: Ids,
    query_cams: Ids,
    gallery_cams: Ids,
    *,
    distance: Distance = "euclidean",
    normalize: bool = False,
    max_rank: int = 50,
    metric: Metric = "market1501",
    seed: int = 0,
) -> RetrievalResult:
    """Evaluate embeddings, without ever holding the whole distance matrix.

    Args:
        query: (Q, D) embeddings.
        gallery: (G, D) embeddings.
        query_pids: (Q,) identities, as all ids integers.
        gallery_pids: (G,) identities.
        query_cams: (Q,) cameras.
        gallery_cams: (G,) cameras.
        distance: See `pairwise_distance`.
        normalize: Divide the embeddings by their L2 norm first.
        max_rank: Length of the CMC curve.
        metric: `market1501`, or `cuhk03`: CMC over galleries with one random image an identity, 10 of them.
        seed: Of the random galleries of `cuhk03`.

    Raises:
        ValueError: If lengths differ, a side is empty, or an embedding is not finite.
    """
    for name, features in (("query", query), ("gallery", gallery)):
        bad = int((~torch.isfinite(features.float()).all(dim=1)).sum()) if features.ndim == 2 else 0
        if features.ndim != 2 or bad:
            raise ValueError(f"{bad} of {len(features)} {name} embeddings are not finite" if bad else "expected (N, D)")
    if normalize:
        query = torch.nn.functional.normalize(query.float(), dim=1)
        gallery = torch.nn.functional.normalize(gallery.float(), dim=1)
    size = max(1, _CHUNK_ELEMENTS // max(1, len(gallery)))
    chunks = (pairwise_distance(part, gallery, distance) for part in query.split(size))
    ids = _Ids.of(query_pids, gallery_pids, query_cams, gallery_cams, len(query), len(gallery), query.device)
    return _evaluate(chunks, ids, max_rank, metric, seed)


def evaluate_distances(
    distances: Tensor,
    query_pids: Ids,
    gallery_pids: Ids,
    query_cams: Ids,
    gallery_cams: Ids,
    *,
    max_rank: int = 50,
    metric: Metric = "market1501",
    seed: int = 0,
) -> RetrievalResult:
    """Evaluate a (Q, G) distance matrix, e.g. a re-ranked one. Arguments and errors as `evaluate_features`."""
    if distances.ndim != 2 or not bool(torch.isfinite(distances).all()):
        raise ValueError("expected a (Q, G) matrix of finite distances")
    size = max(1, _CHUNK_ELEMENTS // max(1, distances.shape[1]))
    chunks = (part.float() for part in distances.split(size))
    ids = _Ids.of(query_pids, gallery_pids, query_cams, gallery_cams, *distances.shape, distances.device)
    return _evaluate(chunks, ids, max_rank, metric, seed)


@dataclass(frozen=True)
class _Ids:
    query_pids: Tensor
    gallery_pids: Tensor
    query_cams: Tensor
    gallery_cams: Tensor

    @classmethod
    def of(
        cls, q_pids: Ids, g_pids: Ids, q_cams: Ids, g_cams: Ids, queries: int, gallery: int, device: torch.device
    ) -> "_Ids":
        made = [torch.as_tensor(np.asarray(ids), device=device).long() for ids in (q_pids, g_pids, q_cams, g_cams)]
        if not queries or not gallery:
            raise ValueError(f"nothing to evaluate: {queries} queries, {gallery} gallery images")
        for name, ids, length in zip(
            ("query_pids", "gallery_pids", "query_cams", "gallery_cams"),
            made,
            (queries, gallery, queries, gallery),
            strict=True,
        ):
            if ids.shape != (length,):
                raise ValueError(f"{name} has the shape {tuple(ids.shape)}, expected ({length},)")
        return cls(*made)


def _evaluate(chunks: Iterator[Tensor], ids: _Ids, max_rank: int, metric: Metric, seed: int) -> RetrievalResult:
    queries, gallery = len(ids.query_pids), len(ids.gallery_pids)
    ap = np.full(queries, np.nan)
    inp = np.full(queries, np.nan)
    first = np.full(queries, np.nan)
    single_shot: list[npt.NDArray[np.float64]] = []
    random = np.random.default_rng(seed)
    start = 0
    for distances in chunks:
        rows = slice(start, start + len(distances))
        same_pid = ids.gallery_pids[None] == ids.query_pids[rows, None]
        same_cam = ids.gallery_cams[None] == ids.query_cams[rows, None]
        junk, match = same_pid & same_cam, same_pid & ~same_cam
        if metric == "cuhk03":
            single_shot += _single_shot_cmc(distances, match, junk, ids.gallery_pids, max_rank, random)
        ranks, valid = _match_ranks(distances, match, junk)
        numbers = np.arange(1, ranks.shape[1] + 1)
        count = valid.sum(1)
        has = count > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            ap[rows] = np.where(has, np.where(valid, numbers / ranks, 0).sum(1) / count, np.nan)
            inp[rows] = np.where(has, count / np.where(valid, ranks, 0).max(1, initial=0), np.nan)
        first[rows] = np.where(has, np.where(valid, ranks, np.inf).min(1, initial=np.inf), np.nan)
        start += len(distances)
    valid_queries = int(np.isfinite(first).sum())
    length = min(max_rank, gallery)
    if valid_queries == 0:
        cmc = np.full(length, np.nan)
    elif metric == "cuhk03":
        cmc = np.mean(single_shot, axis=0)[:length]
    else:
        cmc = (first[np.isfinite(first), None] <= np.arange(1, length + 1)).mean(0)
    mean_ap = float(np.nanmean(ap)) if valid_queries else float("nan")
    mean_inp = float(np.nanmean(inp)) if valid_queries else float("nan")
    return RetrievalResult(mean_ap, mean_inp, cmc, ap, inp, first, valid_queries)


def _match_ranks(
    distances: Tensor, match: Tensor, junk: Tensor
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Ranks (from 1) of the matches of each row, ascending, padded to the most matches of a row.

    Args:
        distances: (B, G) float32.
        match: (B, G) bool, what is to be found.
        junk: (B, G) bool, what is left out.

    Returns:
        (B, M) float64 ranks and (B, M) bool, which of them are matches and not padding.
    """
    most = int(match.sum(1).max()) if match.numel() else 0
    if most == 0:
        return np.ones((len(distances), 1)), np.zeros((len(distances), 1), bool)
    # Distances of the matches, ascending; the padding is infinite and lies behind every gallery image.
    wanted = distances.masked_fill(~match, torch.inf).topk(most, dim=1, largest=False, sorted=True).values
    valid = torch.isfinite(wanted)
    counted = distances.masked_fill(junk, torch.inf)
    nearer = _count_below(wanted, counted, right=True)
    not_farther = _count_below(wanted, counted, right=False)
    # Among equal matches the first comes first; its place in the group is its index less the group's start.
    index = torch.arange(most, device=wanted.device)[None]
    group_start = torch.searchsorted(wanted, wanted, right=False)
    group_end = torch.searchsorted(wanted, wanted, right=True)
    ranks = nearer + (index - group_start) + 1
    tied = ((not_farther - nearer) != (group_end - group_start)) & valid
    result = ranks.double().cpu().numpy()
    for row in torch.nonzero(tied.any(1)).flatten().tolist():
        # Sort what torchreid sorts, left-out images too, so that ties fall as they do there.
        order = np.argsort(distances[row].cpu().numpy())
        order = order[~junk[row].cpu().numpy()[order]]
        places = np.flatnonzero(match[row].cpu().numpy()[order]) + 1
        result[row, : len(places)] = places
    return result, valid.cpu().numpy()


def _count_below(wanted: Tensor, distances: Tensor, *, right: bool) -> Tensor:
    """(B, M) how many of a row's distances lie below each wanted one (right), or not above it (not right)."""
    rows, most = wanted.shape
    place = torch.searchsorted(wanted, distances, right=right, out_int32=True)
    place += torch.arange(rows, device=place.device, dtype=torch.int32)[:, None] * (most + 1)
    counts = torch.bincount(place.flatten(), minlength=rows * (most + 1)).view(rows, most + 1)
    return counts[:, :most].cumsum(1)


def _single_shot_cmc(
    distances: Tensor, match: Tensor, junk: Tensor, gallery_pids: Tensor, max_rank: int, random: np.random.Generator
) -> Iterator[npt.NDArray[np.float64]]:
    """CMC of CUHK03 for each row that has a match: the mean over 10 galleries of one random image an identity."""
    pids = gallery_pids.cpu().numpy()
    for row in range(len(distances)):
        if not bool(match[row].any()):
            continue
        order = np.argsort(distances[row].cpu().numpy())
        order = order[~junk[row].cpu().numpy()[order]]
        ranked = pids[order]
        right = match[row].cpu().numpy()[order]
        curve = np.zeros(max_rank)
        for _ in range(10):
            # The last of a random permutation that names an identity wins: one uniform choice of each.
            shuffled = random.permutation(len(ranked))
            _, chosen = np.unique(ranked[shuffled], return_index=True)
            kept = np.sort(shuffled[chosen])
            place = int(np.flatnonzero(right[kept])[0])
            curve[place:] += 0.1
        yield curve
