"""Re-ranking equals torchreid's, on ties and degenerate sets too."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchreid.reid.utils.rerank import re_ranking

from metrics.cases import make_case
from watchme.metrics import reranking
from watchme.metrics.distance import pairwise_distance
from watchme.metrics.reranking import rerank_features, rerank_k_reciprocal


def matrices(query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return pairwise_distance(query, gallery), pairwise_distance(query, query), pairwise_distance(gallery, gallery)


def assert_equals_torchreid(query: Tensor, gallery: Tensor, **options: Any) -> None:
    three = matrices(query, gallery)
    ours = rerank_k_reciprocal(*three, **options)
    assert ours.dtype == torch.float32
    theirs = re_ranking(*(part.numpy() for part in three), **options)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k1": 1, "k2": 1, "lambda_value": 0.0},
        {"k1": 5, "k2": 2, "lambda_value": 0.5},
        {"k1": 7, "k2": 30},
        {"k1": 30, "k2": 6, "lambda_value": 1.0},
    ],
    ids=str,
)
def test_equal_to_torchreid(grid: float, options: dict[str, Any]) -> None:
    case = make_case(0, 60, 240, grid=grid)
    assert_equals_torchreid(case.query, case.gallery, **options)


@pytest.mark.parametrize(("queries", "gallery"), [(1, 1), (1, 30), (30, 1), (3, 9), (12, 8)])
def test_equal_to_torchreid_on_sets_smaller_than_k1(queries: int, gallery: int) -> None:
    case = make_case(1, queries, gallery)
    assert_equals_torchreid(case.query, case.gallery)


def test_equal_to_torchreid_with_more_copies_of_an_image_than_k1() -> None:
    """Some copies are then not among their own nearest, and have no vector at all."""
    case = make_case(2, 5, 20)
    gallery = torch.cat([case.gallery, case.gallery[:1].repeat(70, 1).round()])
    assert_equals_torchreid(case.query.round(), gallery.round())
    assert_equals_torchreid(case.query.round(), gallery.round(), k2=1)


def test_equal_to_torchreid_on_matrices_that_are_not_symmetric() -> None:
    random = torch.Generator().manual_seed(0)
    three = [torch.rand(*shape, generator=random) for shape in ((20, 70), (20, 20), (70, 70))]
    theirs = re_ranking(*(part.numpy() for part in three))
    np.testing.assert_allclose(rerank_k_reciprocal(*three).numpy(), theirs, rtol=0, atol=1e-5)


def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that end within the queries, within the gallery, and across the border."""
    case = make_case(3, 100, 220, grid=1.0)
    whole = rerank_features(case.query, case.gallery)
    monkeypatch.setattr(reranking, "BLOCK_BYTES", 1)
    assert torch.equal(rerank_features(case.query, case.gallery), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    case = make_case(4)
    three = [part.to(dtype) for part in matrices(case.query, case.gallery)]
    assert torch.equal(rerank_k_reciprocal(*three), rerank_k_reciprocal(*(part.float() for part in three)))


def test_from_features() -> None:
    case = make_case(5)
    unit = [torch.nn.functional.normalize(part, dim=1) for part in (case.query, case.gallery)]
    ours = rerank_features(case.query, case.gallery, normalize=True, k1=9, k2=3, lambda_value=0.2)
    expected = rerank_k_reciprocal(*matrices(*unit), k1=9, k2=3, lambda_value=0.2)
    assert torch.equal(ours, expected)
    assert not torch.equal(ours, rerank_features(case.query, case.gallery, distance="cosine"))


def test_copies_of_one_image_are_all_alike() -> None:
    """torchreid divides 0 by 0 here; distances of 0 stay 0, and only the k1 + 1 kept neighbours can differ."""
    ours = rerank_k_reciprocal(torch.zeros(2, 5), torch.zeros(2, 2), torch.zeros(5, 5))
    torch.testing.assert_close(ours, torch.zeros(2, 5), rtol=0, atol=1e-6)


def test_unfit_input_is_refused() -> None:
    good = [torch.ones(2, 5), torch.ones(2, 2), torch.ones(5, 5)]
    with pytest.raises(ValueError, match=r"needs square q_q and g_g of its sides, got \(2, 2\) and \(4, 4\)"):
        rerank_k_reciprocal(good[0], good[1], torch.ones(4, 4))
    broken = good[2].clone()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="g_g: 1 of 5 rows hold NaN or infinity"):
        rerank_k_reciprocal(good[0], good[1], broken)
    with pytest.raises(ValueError, match="q_g are empty"):
        rerank_k_reciprocal(torch.ones(0, 5), torch.ones(0, 0), good[2])
    refused: list[dict[str, Any]] = [{"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}]
    for options in refused:
        with pytest.raises(ValueError, match="k1 and k2 must be at least 1"):
            rerank_k_reciprocal(*good, **options)
