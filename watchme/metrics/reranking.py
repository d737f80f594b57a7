"""Re-ranking by k-reciprocal neighbours (Zhong et al., "Re-ranking Person Re-identification with
k-reciprocal Encoding", CVPR 2017).

Two images are alike when they have the same neighbours, not only when they are near. Of the N = Q + G images
each is described by a sparse vector over its reciprocal neighbours; the Jaccard distance of these vectors is
mixed with the original distance. Since a vector has some dozens of entries, everything but the search for
the nearest neighbours works on sparse matrices, and no N x N matrix is ever built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from watchme.metrics.distance import (
    Distance,
    at_least_float32,
    check_matrix,
    checked_features,
    pairwise_distance,
    row_ranges,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Sparse = Any  # scipy.sparse.csr_array, which has no type stubs

BLOCK_BYTES = 32 * 2**20


def rerank_features(
    query: Tensor,
    gallery: Tensor,
    *,
    distance: Distance = "euclidean",
    normalize: bool = False,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Tensor:
    """Re-ranked query-gallery distances of embeddings.

    Args:
        query: (Q, D) floating-point features; half precision is computed in float32.
        gallery: (G, D) features on the same device.
        distance: ``"euclidean"`` (squared) or ``"cosine"``, see ``pairwise_distance``.
        normalize: L2-normalise the features first.
        k1: see ``rerank_k_reciprocal``, like all that follows.
        k2: neighbours averaged.
        lambda_value: weight of the original distance.

    Returns:
        (Q, G) float32 distances, for ``evaluate_distances``. Memory grows with (Q + G)^2.

    Raises:
        ValueError: unfit features or options.
    """
    query, gallery = checked_features(query, gallery, normalize=normalize)
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
    """Re-ranked query-gallery distances, those of ``torchreid.utils.re_ranking``.

    As there, the distances given are squared once more and divided by the largest of each image.

    Args:
        q_g: (Q, G) floating-point distances of queries to gallery images.
        q_q: (Q, Q) distances among the queries.
        g_g: (G, G) distances among the gallery images.
        k1: neighbours looked at, itself not counted.
        k2: nearest images (itself included) whose vectors are averaged; 1 leaves them as they are.
        lambda_value: weight of the original distance, 0 to 1.

    Returns:
        (Q, G) float32 distances on the device of ``q_g``; the work is done on the CPU.

    Raises:
        ValueError: matrices that are empty, non-finite (with the count of rows) or do not fit each other,
            or options out of range.
    """
    for name, matrix in (("q_g", q_g), ("q_q", q_q), ("g_g", g_g)):
        check_matrix(matrix, name)
    num_queries, num_gallery = q_g.shape
    if q_q.shape != (num_queries, num_queries) or g_g.shape != (num_gallery, num_gallery):
        raise ValueError(
            f"q_g of shape {tuple(q_g.shape)} needs square q_q and g_g of its sides, "
            f"got {tuple(q_q.shape)} and {tuple(g_g.shape)}"
        )
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise ValueError(f"k1 and k2 must be at least 1 and lambda_value in 0..1, got {k1}, {k2}, {lambda_value}")

    matrices = (at_least_float32(m.detach().cpu()) for m in (q_g, q_q, g_g))
    original = _Original(*matrices)
    nearest = _nearest(original, max(k1 + 1, k2))
    vectors = _reciprocal_vectors(original, nearest, k1)
    if k2 > 1:
        averaged = nearest[:, :k2]
        vectors = _from_rows(averaged, 1 / averaged.shape[1]) @ vectors

    jaccard = _jaccard(vectors[:num_queries], vectors[num_queries:])
    jaccard *= 1 - lambda_value
    for start, stop in row_ranges(num_queries, original.rows_per_block):
        jaccard[start:stop] += original.rows(start, stop)[:, num_queries:].numpy() * lambda_value
    return torch.from_numpy(jaccard).to(q_g.device)


@dataclass
class _Original:
    """The squared distances among all N images, each row divided by its maximum, made in blocks on demand.

    Row i is what torchreid gets from column i of [[q_q, q_g], [q_g.T, g_g]]; the order of a row decides the
    neighbours, so rounding asymmetries of q_q and g_g are kept too.
    """

    q_g: Tensor
    q_q: Tensor
    g_g: Tensor

    def __post_init__(self) -> None:
        self.num_queries = len(self.q_g)
        self.total = self.num_queries + len(self.g_g)
        self.rows_per_block = BLOCK_BYTES // (4 * self.total)

    def rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, N) float32; the range may span queries and gallery images."""
        middle = min(max(self.num_queries, start), stop)
        block = torch.empty(stop - start, self.total)
        if start < middle:
            block[: middle - start, : self.num_queries] = self.q_q[:, start:middle].T.square()
            block[: middle - start, self.num_queries :] = self.q_g[start:middle].square()
        if middle < stop:
            first, last = middle - self.num_queries, stop - self.num_queries
            block[middle - start :, : self.num_queries] = self.q_g[:, first:last].T.square()
            block[middle - start :, self.num_queries :] = self.g_g[:, first:last].T.square()
        largest = block.amax(dim=1, keepdim=True)
        # Where all images are the same one, all distances are 0, and so they stay (0 / 0 is NaN in torchreid).
        return block.div_(largest.masked_fill_(largest == 0, 1))


def _nearest(original: _Original, count: int) -> Ints:
    """(N, count) nearest images of each, itself among them; ties in the order of ``numpy.argsort``."""
    count = min(count, original.total)
    found = np.empty((original.total, count), np.int64)
    for start, stop in row_ranges(original.total, original.rows_per_block):
        block = original.rows(start, stop)
        # One more than needed shows whether a tie straddles the end.
        values, indices = block.topk(min(count + 1, original.total), dim=1, largest=False)
        found[start:stop] = indices[:, :count].numpy()
        # topk and torchreid's argsort each order ties in their own way: for such rows, ask argsort itself.
        tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
        for row in tied.nonzero().flatten().tolist():
            found[start + row] = np.argsort(block[row].numpy())[:count]
    return found


def _from_rows(columns: Ints, value: float) -> Sparse:
    """Sparse (N, N) float32 matrix with the value at (row, columns[row, :])."""
    size, width = columns.shape
    entries = (np.repeat(np.arange(size), width), columns.ravel())
    return sparse.csr_array((np.full(columns.size, value, np.float32), entries), shape=(size, size))


def _reciprocal(nearest: Ints) -> Sparse:
    """(N, N) matrix with 1 where both images are among each other's nearest."""
    forward = _from_rows(nearest, 1)
    return forward.multiply(forward.T).tocsr()


def _reciprocal_vectors(original: _Original, nearest: Ints, k1: int) -> Sparse:
    """(N, N) sparse float32: each image over its expanded reciprocal neighbours, rows summing to 1."""
    wide = _reciprocal(nearest[:, : k1 + 1])
    narrow = _reciprocal(nearest[:, : round(k1 / 2) + 1])
    # A neighbour brings its own (narrow) set along when more than 2/3 of that set is in the image's set.
    shared = (wide @ narrow.T).multiply(wide).tocoo()
    sizes = narrow.sum(axis=1)
    brought = 3 * shared.data > 2 * sizes[shared.col]  # small counts: exact in float32
    bringers = sparse.csr_array((shared.data[brought], (shared.row[brought], shared.col[brought])), wide.shape)
    expanded = (wide + bringers @ narrow).tocsr()
    expanded.sort_indices()

    for start, stop in row_ranges(original.total, original.rows_per_block):
        block = original.rows(start, stop).numpy()
        inside = slice(expanded.indptr[start], expanded.indptr[stop])
        lengths = np.diff(expanded.indptr[start : stop + 1])
        rows = np.repeat(np.arange(stop - start), lengths)
        weights = np.exp(-block[rows, expanded.indices[inside]])
        sums = np.bincount(rows, weights, minlength=stop - start)
        expanded.data[inside] = weights / sums[rows]
    return expanded


def _jaccard(queries: Sparse, gallery: Sparse) -> Floats:
    """(Q, G) Jaccard distances of non-negative rows that sum to 1: 1 - sum min / sum max."""
    holders = gallery.tocsc()  # for every entry of a vector, the gallery images that have it
    lengths = np.diff(holders.indptr)
    distances = np.empty((queries.shape[0], gallery.shape[0]), np.float32)
    for query in range(queries.shape[0]):
        inside = slice(queries.indptr[query], queries.indptr[query + 1])
        columns, own = queries.indices[inside], queries.data[inside]
        each = lengths[columns]
        # Positions, in the holders' arrays, of all runs that belong to the columns.
        before = each.cumsum() - each
        positions = np.arange(each.sum()) + np.repeat(holders.indptr[columns] - before, each)
        least = np.minimum(np.repeat(own, each), holders.data[positions])
        common = np.bincount(holders.indices[positions], least, minlength=gallery.shape[0])
        distances[query] = 1 - common / (2 - common)
    return distances
