"""Re-ranking by k-reciprocal neighbours (Zhong et al., "Re-ranking Person Re-identification with
k-reciprocal Encoding", CVPR 2017).

Two images are alike when they have the same neighbours, not only when they are near. Of the N = Q + G images
each is described by a sparse vector over its reciprocal neighbours; the Jaccard distance of these vectors is
mixed with the original distance. Since a vector has some dozens of entries, everything but the search for
the nearest neighbours works on sparse matrices; distances are computed in blocks of rows where they are needed, so
that no N x N and no Q x G matrix ever exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize as l2_normalize

from watchme.core.errors import WatchmeError
from watchme.core.resources import available_memory
from watchme.metrics.distance import Distance, checked_features, distance_chunks, row_ranges

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Sparse = Any  # scipy.sparse.csr_array, which has no type stubs

BLOCK_BYTES = 32 * 2**20
# What is asked for before it starts, above the features. Peaks that were measured: 13 to 19 KB an image for 10,000 and
# 20,000 images, whose identities were far apart or not there at all, and 16 KB for MSMT17's 93,820.
BYTES_PER_IMAGE = 25_000


def reranked_chunks(
    query: Tensor,
    gallery: Tensor,
    distance: Distance = "euclidean",
    rows: int = 1024,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Iterator[Tensor]:
    """Consecutive row blocks of the re-ranked query-gallery distances, those of ``torchreid.utils.re_ranking``.

    As there, the distances are squared once more and divided by the largest of each image.

    Args:
        query: (Q, D) floating-point features; half precision is computed in float32.
        gallery: (G, D) features on the same device, on which neighbours are searched.
        distance: ``"euclidean"`` (squared) or ``"cosine"``, see ``pairwise_distance``.
        rows: wanted rows in a block.
        k1: neighbours looked at, itself not counted.
        k2: nearest images (itself included) whose vectors are averaged; 1 leaves them as they are.
        lambda_value: weight of the original distance, 0 to 1.

    Yields:
        (n, G) float32 matrices on the CPU.

    Raises:
        ValueError: unfit features, or options out of range.
        WatchmeError: too little memory for so many images.
    """
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise ValueError(f"k1 and k2 must be at least 1 and lambda_value in 0..1, got {k1}, {k2}, {lambda_value}")
    query, gallery = checked_features(query, gallery)
    require_memory(len(query) + len(gallery))
    original = _Original(torch.cat((query, gallery)), distance)
    nearest, largest = _nearest(original, max(k1 + 1, k2))
    vectors = _reciprocal_vectors(original, nearest, largest, k1)
    if k2 > 1:
        averaged = nearest[:, :k2]
        vectors = _from_rows(averaged, 1 / averaged.shape[1]) @ vectors
    queries, holders = vectors[: len(query)], vectors[len(query) :].tocsc()
    start = 0
    for block in distance_chunks(query, gallery, distance, rows):
        stop = start + len(block)
        mixed = block.square().div_(largest[start:stop, None].to(block.device)).mul_(lambda_value).float().cpu()
        mixed += torch.from_numpy(_jaccard(queries[start:stop], holders)).mul_(1 - lambda_value)
        yield mixed
        start = stop


def require_memory(images: int) -> None:
    """Ask for what re-ranking so many images, queries and gallery together, takes above their features.

    Raises:
        WatchmeError: If less is available.
    """
    needed, available = images * BYTES_PER_IMAGE, available_memory()
    if needed > available:
        raise WatchmeError(
            f"re-ranking {images} images takes about {needed / 2**30:.1f} GB of memory, and {available / 2**30:.1f} GB "
            "are available; set evaluation.rerank=false, or evaluate on a machine with more"
        )


@dataclass
class _Original:
    """The distances among all N images, squared once more; computed where they are asked for."""

    images: Tensor  # (N, D) float32 or float64 features of queries, then gallery
    distance: Distance  # see ``pairwise_distance``

    def __post_init__(self) -> None:
        self.total = len(self.images)
        self.rows_per_block = BLOCK_BYTES // (4 * self.total)

    def blocks(self) -> Iterator[Tensor]:
        """(n, N) blocks of consecutive rows; each is overwritten by the next."""
        for block in distance_chunks(self.images, self.images, self.distance, self.rows_per_block):
            yield block.square_()

    def pairs(self, rows: Ints, columns: Ints) -> Floats:
        """(n,) float32 of pairs of images."""
        one, other = (self.images[torch.from_numpy(numbers).to(self.images.device)] for numbers in (rows, columns))
        if self.distance == "cosine":
            found = 1 - (l2_normalize(one, dim=1) * l2_normalize(other, dim=1)).sum(1)
        else:
            found = (one - other).square().sum(1)
        squared: Floats = found.square().float().cpu().numpy()
        return squared


def _nearest(original: _Original, count: int) -> tuple[Ints, Tensor]:
    """(N, count) nearest images of each, itself among them, ties in the order of ``numpy.argsort``; (N,) largest."""
    count = min(count, original.total)
    found = np.empty((original.total, count), np.int64)
    largest = torch.empty(original.total, dtype=original.images.dtype)
    start = 0
    for block in original.blocks():
        stop = start + len(block)
        most = block.amax(dim=1)
        # Where all images are the same one, all distances are 0, and so they stay (0 / 0 is NaN in torchreid).
        most = most.masked_fill(most == 0, 1)
        largest[start:stop] = most.cpu()
        # Divided as torchreid does, since that makes ties of its own.
        block.div_(most[:, None])
        # One more than needed shows whether a tie straddles the end.
        values, indices = block.topk(min(count + 1, original.total), dim=1, largest=False)
        found[start:stop] = indices[:, :count].cpu().numpy()
        # topk and torchreid's argsort each order ties in their own way: for such rows, ask argsort itself.
        tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
        for row in tied.nonzero().flatten().tolist():
            found[start + row] = np.argsort(block[row].cpu().numpy())[:count]
        start = stop
    return found, largest


def _from_rows(columns: Ints, value: float) -> Sparse:
    """Sparse (N, N) float32 matrix with the value at (row, columns[row, :])."""
    size, width = columns.shape
    entries = (np.repeat(np.arange(size), width), columns.ravel())
    return sparse.csr_array((np.full(columns.size, value, np.float32), entries), shape=(size, size))


def _reciprocal(nearest: Ints) -> Sparse:
    """(N, N) matrix with 1 where both images are among each other's nearest."""
    forward = _from_rows(nearest, 1)
    return forward.multiply(forward.T).tocsr()


def _reciprocal_vectors(original: _Original, nearest: Ints, largest: Tensor, k1: int) -> Sparse:
    """(N, N) sparse float32: each image over its expanded reciprocal neighbours, rows summing to 1."""
    wide = _reciprocal(nearest[:, : k1 + 1])
    narrow = _reciprocal(nearest[:, : round(k1 / 2) + 1])
    # A neighbour's own (narrow) set is added when more than 2/3 of that set is in the image's set.
    shared = (wide @ narrow.T).multiply(wide).tocoo()
    sizes = narrow.sum(axis=1)
    added = 3 * shared.data > 2 * sizes[shared.col]  # small counts: exact in float32
    adding = sparse.csr_array((shared.data[added], (shared.row[added], shared.col[added])), wide.shape)
    expanded = (wide + adding @ narrow).tocsr()
    expanded.sort_indices()

    scale = largest.float().numpy()
    pairs_per_block = BLOCK_BYTES // (8 * original.images.shape[1])
    rows_per_block = max(1, pairs_per_block * original.total // max(1, expanded.nnz))
    for start, stop in row_ranges(original.total, rows_per_block):
        inside = slice(expanded.indptr[start], expanded.indptr[stop])
        rows = np.repeat(np.arange(start, stop), np.diff(expanded.indptr[start : stop + 1]))
        weights = np.exp(-original.pairs(rows, expanded.indices[inside]) / scale[rows])
        sums = np.bincount(rows - start, weights, minlength=stop - start)
        expanded.data[inside] = weights / sums[rows - start]
    return expanded


def _jaccard(queries: Sparse, holders: Sparse) -> Floats:
    """(n, G) Jaccard distances of non-negative rows that sum to 1: 1 - sum min / sum max.

    Args:
        queries: (n, N) csr.
        holders: (G, N) csc: for every entry of a vector, the gallery images that have it.
    """
    lengths = np.diff(holders.indptr)
    distances = np.empty((queries.shape[0], holders.shape[0]), np.float32)
    for query in range(queries.shape[0]):
        inside = slice(queries.indptr[query], queries.indptr[query + 1])
        columns, own = queries.indices[inside], queries.data[inside]
        each = lengths[columns]
        # Positions, in the holders' arrays, of all runs that belong to the columns.
        before = each.cumsum() - each
        positions = np.arange(each.sum()) + np.repeat(holders.indptr[columns] - before, each)
        least = np.minimum(np.repeat(own, each), holders.data[positions])
        common = np.bincount(holders.indices[positions], least, minlength=holders.shape[0])
        distances[query] = 1 - common / (2 - common)
    return distances
