"""Distances between person embeddings: whole matrices, and the same rows a chunk at a time."""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize as l2_normalize

Distance = Literal["euclidean", "cosine"]

# BLAS takes another path (and another summation order) for products of a few rows. A chunk is never
# smaller than this, so a row's distances have the same bits whatever the chunk size: measured with MKL,
# 16 rows are enough. Without it, exact ties (duplicate images) would depend on the memory budget.
MIN_ROWS = 64


def pairwise_distance(query: Tensor, gallery: Tensor, distance: Distance = "euclidean") -> Tensor:
    """Distance of every query to every gallery embedding.

    Args:
        query: (Q, D) floating-point features; half precision is computed in float32.
        gallery: (G, D) features on the same device.
        distance: ``"euclidean"`` is the *squared* Euclidean distance |q|^2 + |g|^2 - 2 q.g, as in torchreid
            (rounding can leave it slightly below 0); ``"cosine"`` is 1 - cos(q, g), of no unit, in [0, 2].

    Returns:
        (Q, G) matrix, float32 (float64 where the features are), on the features' device.

    Raises:
        ValueError: unknown distance, empty or mismatched features, features of integers, NaN or infinity.
    """
    query, gallery = checked_features(query, gallery)
    (rows,) = distance_chunks(query, gallery, distance, len(query))
    return rows


def checked_features(query: Tensor, gallery: Tensor, *, normalize: bool = False) -> tuple[Tensor, Tensor]:
    """The two feature sets, detached, in float32 or float64, found fit to compare (L2-normalised if asked).

    Args:
        query: (Q, D) features.
        gallery: (G, D) features.
        normalize: divide each row by its L2 norm (a zero row stays zero).

    Raises:
        ValueError: what is wrong with the features, and in how many rows.
    """
    check_matrix(query, "query features")
    check_matrix(gallery, "gallery features")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query features have {query.shape[1]} dimensions, gallery features have {gallery.shape[1]}")
    if query.device != gallery.device:
        raise ValueError(f"query features are on {query.device}, gallery features on {gallery.device}")
    query, gallery = at_least_float32(query.detach()), at_least_float32(gallery.detach())
    common = torch.promote_types(query.dtype, gallery.dtype)
    query, gallery = query.to(common), gallery.to(common)
    # |q - g|^2 is at most (|q| + |g|)^2. Beyond that even the cosine is silently wrong: x / inf is 0.
    limit = torch.finfo(common).max ** 0.5 / 2
    for name, features in (("query", query), ("gallery", gallery)):
        bad = int((torch.linalg.vector_norm(features, dim=1) > limit).sum())
        if bad:
            raise ValueError(
                f"{name} features: {bad} of {len(features)} rows are so large that distances overflow {common}"
            )
    if normalize:
        query, gallery = l2_normalize(query, dim=1), l2_normalize(gallery, dim=1)
    return query, gallery


def check_matrix(matrix: Tensor, name: str) -> None:
    """Refuse what is not a finite, non-empty, floating-point 2-D matrix.

    Raises:
        ValueError: wrong shape or type, no entries, or non-finite rows (with their count).
    """
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be a 2-D matrix, got shape {tuple(matrix.shape)}")
    if matrix.numel() == 0:
        raise ValueError(f"{name} are empty: shape {tuple(matrix.shape)}")
    if not matrix.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {matrix.dtype}")
    # aminmax carries both to its result, without a temporary of the matrix's size.
    low, high = torch.aminmax(matrix.detach(), dim=1)
    bad = int((~(torch.isfinite(low) & torch.isfinite(high))).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {len(matrix)} rows hold NaN or infinity")


def at_least_float32(matrix: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return matrix if matrix.dtype == torch.float64 else matrix.float()


def distance_chunks(query: Tensor, gallery: Tensor, distance: Distance, rows: int) -> Iterator[Tensor]:
    """Consecutive row blocks of the distance matrix, about ``rows`` rows (at least ``MIN_ROWS``) each.

    Args:
        query: (Q, D) features that ``checked_features`` returned.
        gallery: (G, D) features that ``checked_features`` returned.
        distance: as for ``pairwise_distance``.
        rows: wanted rows in a block.

    Yields:
        Matrices (n, G), all of them finite, whose concatenation is ``pairwise_distance(query, gallery, distance)``.
        They share their memory: each is overwritten by the next.

    Raises:
        ValueError: unknown distance.
    """
    if distance not in get_args(Distance):
        raise ValueError(f"unknown distance {distance!r}: choose one of {', '.join(get_args(Distance))}")
    if distance == "cosine":
        query, gallery = l2_normalize(query, dim=1), l2_normalize(gallery, dim=1)
        query_norms = gallery_norms = None
    else:
        query_norms = query.square().sum(dim=1, keepdim=True)
        gallery_norms = gallery.square().sum(dim=1)

    # One buffer for all: fresh memory of this size costs a page fault every 4 KB, as much as a pass over it.
    buffer = query.new_empty(min(max(rows, MIN_ROWS), len(query)), len(gallery))
    for start, stop in row_ranges(len(query), rows):
        # A short last block reaches back over rows already done instead of becoming a small product.
        first = max(0, min(start, stop - MIN_ROWS))
        block = buffer[: stop - first]
        if query_norms is None or gallery_norms is None:
            torch.mm(query[first:stop], gallery.T, out=block).neg_().add_(1)
        else:
            torch.add(query_norms[first:stop], gallery_norms, out=block)
            block.addmm_(query[first:stop], gallery.T, alpha=-2)
        yield block[start - first :]


def row_ranges(total: int, rows: int) -> Iterator[tuple[int, int]]:
    """(start, stop) pairs that cut ``total`` rows into blocks of ``rows``, at least ``MIN_ROWS``."""
    rows = max(rows, MIN_ROWS)
    for start in range(0, total, rows):
        yield start, min(start + rows, total)
