"""Distances equal torchreid's, and have the same bits in chunks of any size."""

import pytest
import torch
from torchreid.reid.metrics.distance import compute_distance_matrix

from metrics.cases import make_case
from watchme.metrics.distance import Distance, checked_features, distance_chunks, pairwise_distance

BOTH: list[Distance] = ["euclidean", "cosine"]


@pytest.mark.parametrize("distance", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_torchreid(distance: Distance, dtype: torch.dtype) -> None:
    case = make_case(0)
    query, gallery = case.query.to(dtype), case.gallery.to(dtype)
    ours = pairwise_distance(query, gallery, distance)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, compute_distance_matrix(query, gallery, distance), rtol=0, atol=1e-5)


@pytest.mark.parametrize("distance", BOTH)
@pytest.mark.parametrize(("queries", "gallery", "size"), [(1, 7, 3), (65, 31, 5), (129, 517, 130), (700, 1111, 512)])
def test_chunks_have_the_bits_of_the_whole(distance: Distance, queries: int, gallery: int, size: int) -> None:
    generator = torch.Generator().manual_seed(queries)
    query, images = (torch.randn(n, size, generator=generator) for n in (queries, gallery))
    whole = pairwise_distance(query, images, distance)
    for rows in (1, 100, 10_000):
        chunks = [chunk.clone() for chunk in distance_chunks(query, images, distance, rows)]
        assert torch.equal(torch.cat(chunks), whole), rows
    assert len(list(distance_chunks(query, images, distance, 1))) == -(-queries // 64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    case = make_case(1)
    half = case.query.to(dtype), case.gallery.to(dtype)
    ours = pairwise_distance(*half, "euclidean")
    assert ours.dtype == torch.float32
    assert torch.equal(ours, pairwise_distance(half[0].float(), half[1].float(), "euclidean"))


def test_normalize_keeps_zero_rows_and_the_caller_s_tensors() -> None:
    query, gallery = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.ones(1, 2)
    unit, _ = checked_features(query, gallery, normalize=True)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert query[0, 0] == 3


def test_features_that_need_a_gradient_give_plain_distances() -> None:
    query = torch.ones(2, 3, requires_grad=True)
    assert not pairwise_distance(query, torch.zeros(4, 3)).requires_grad


@pytest.mark.parametrize(
    ("query", "gallery", "message"),
    [
        (torch.ones(0, 4), torch.ones(3, 4), "query features are empty"),
        (torch.ones(3, 4), torch.ones(0, 4), "gallery features are empty"),
        (torch.ones(3, 4), torch.ones(3, 5), "4 dimensions, gallery features have 5"),
        (torch.ones(4), torch.ones(3, 4), r"2-D matrix, got shape \(4,\)"),
        (torch.ones(3, 4).int(), torch.ones(3, 4), "floating point, got torch.int32"),
        (torch.tensor([[1.0, torch.nan], [1, 1], [torch.inf, 1]]), torch.ones(3, 2), "query features: 2 of 3 rows"),
        (torch.ones(3, 2), torch.tensor([[1.0, 1], [-torch.inf, 1]]), "gallery features: 1 of 2 rows"),
        (
            torch.full((3, 2), 1e30),
            torch.ones(2, 2),
            "query features: 3 of 3 rows are so large that distances overflow",
        ),
    ],
)
def test_unfit_features_are_refused(query: torch.Tensor, gallery: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairwise_distance(query, gallery)


def test_an_unknown_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown distance 'manhattan': choose one of euclidean, cosine"):
        pairwise_distance(torch.ones(1, 1), torch.ones(1, 1), "manhattan")  # type: ignore[arg-type]
