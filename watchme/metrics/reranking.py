"""k-reciprocal re-ranking (Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017).

The neighbour sets are sparse (some 20 of thousands), so they are sparse matrices here: reciprocity is an elementwise
product, the expansion and the query expansion are matrix products, and no N x N matrix but the distances is made.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from watchme.metrics.distance import Distance, pairwise_distance

Matrix = npt.NDArray[np.float32]


def rerank_features(
    query: Tensor, gallery: Tensor, *, distance: Distance = "euclidean", k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> Tensor:
    """Re-ranked (Q, G) float32 distances of (Q, D) and (G, D) embeddings; see `rerank_k_reciprocal`."""
    return rerank_k_reciprocal(
        pairwise_distance(query, gallery, distance),
        pairwise_distance(query, query, distance),
        pairwise_distance(gallery, gallery, distance),
        k1=k1,
        k2=k2,
        lambda_value=lambda_value,
    )


def rerank_k_reciprocal(
    q_g: Tensor, q_q: Tensor, g_g: Tensor, *, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> Tensor:
    """Re-rank a distance matrix; equal to `torchreid.utils.rerank.re_ranking`.

    Args:
        q_g: (Q, G) distances of queries to gallery.
        q_q: (Q, Q) distances among the queries.
        g_g: (G, G) distances among the gallery.
        k1: Neighbours that are looked at for reciprocity.
        k2: Neighbours over which encodings are averaged; 1 does not average.
        lambda_value: Share of the original distance in the result.

    Returns:
        (Q, G) float32: (1 - lambda) Jaccard distance + lambda normalised squared distance.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    queries, gallery = q_g.shape
    if q_q.shape != (queries, queries) or g_g.shape != (gallery, gallery):
        raise ValueError(f"shapes do not fit: {tuple(q_g.shape)}, {tuple(q_q.shape)}, {tuple(g_g.shape)}")
    distances = _normalised(q_g, q_q, g_g)
    total = len(distances)
    neighbours = _nearest(distances, min(k1 + 1, total))
    reciprocal = _reciprocal(neighbours)
    half = _reciprocal(neighbours[:, : int(np.around(k1 / 2.0)) + 1])
    expanded = _expand(reciprocal, half)
    rows = np.repeat(np.arange(total), np.diff(expanded.indptr))
    weights = np.exp(-distances[rows, expanded.indices])
    sums = np.bincount(rows, weights, minlength=total)
    encoding = sparse.csr_matrix(
        ((weights / sums[rows]).astype(np.float32), expanded.indices, expanded.indptr), shape=(total, total)
    )
    if k2 != 1:
        near = neighbours[:, :k2]
        mean = _indicator(near, total).astype(np.float32)
        encoding = (mean @ encoding).tocsr() * np.float32(1 / near.shape[1])
    jaccard = _jaccard(encoding, queries)
    result = jaccard * (1 - lambda_value) + distances[:queries] * lambda_value
    return torch.from_numpy(np.ascontiguousarray(result[:, queries:], dtype=np.float32))


def _normalised(q_g: Tensor, q_q: Tensor, g_g: Tensor) -> Matrix:
    """(N, N) squared distances of all to all, each row divided by its largest."""
    top = torch.cat([q_q, q_g], dim=1)
    bottom = torch.cat([q_g.T, g_g], dim=1)
    whole = torch.cat([top, bottom]).float().cpu().pow_(2)
    whole /= whole.max(dim=0, keepdim=True).values
    return np.ascontiguousarray(whole.T.numpy())


def _nearest(distances: Matrix, count: int) -> npt.NDArray[np.int64]:
    """(N, count) nearest neighbours, ascending by distance and then by index."""
    _, indices = torch.topk(torch.from_numpy(distances), count, dim=1, largest=False, sorted=True)
    return indices.numpy()


def _indicator(neighbours: npt.NDArray[np.int64], total: int) -> Any:
    rows, count = neighbours.shape
    pointers = np.arange(0, rows * count + 1, count)
    return sparse.csr_matrix((np.ones(rows * count, np.int32), neighbours.ravel(), pointers), shape=(rows, total))


def _reciprocal(neighbours: npt.NDArray[np.int64]) -> Any:
    """(N, N) sparse 0/1: each is among the other's neighbours."""
    near = _indicator(neighbours, len(neighbours))
    return near.multiply(near.T).tocsr()


def _expand(reciprocal: Any, half: Any) -> Any:
    """Add to each set the half-sized sets of its members that lie in it by more than two thirds."""
    sizes = np.asarray(half.sum(1)).ravel()
    overlap = (reciprocal @ half.T).multiply(reciprocal).tocoo()
    chosen = overlap.data > 2.0 / 3 * sizes[overlap.col]
    members = sparse.csr_matrix(
        (np.ones(int(chosen.sum()), np.int32), (overlap.row[chosen], overlap.col[chosen])), shape=reciprocal.shape
    )
    expanded = (reciprocal + members @ half).tocsr()
    expanded.sort_indices()
    return expanded


def _jaccard(encoding: Any, queries: int) -> Matrix:
    """(Q, N) Jaccard distance of the queries' encodings to all: 1 - sum of minima / sum of maxima."""
    columns = encoding.tocsc()
    total = encoding.shape[0]
    result = np.empty((queries, total), np.float32)
    for row in range(queries):
        at = slice(encoding.indptr[row], encoding.indptr[row + 1])
        keys, values = encoding.indices[at], encoding.data[at]
        starts, ends = columns.indptr[keys], columns.indptr[keys + 1]
        lengths = ends - starts
        # Positions of all entries of all those columns, one after the other.
        offsets = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
        places = offsets + np.arange(lengths.sum())
        smaller = np.minimum(columns.data[places], np.repeat(values, lengths))
        minima = np.bincount(columns.indices[places], smaller, minlength=total)
        result[row] = 1 - minima / (2 - minima)
    return result
