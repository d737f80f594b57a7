"""Re-ranking equals torchreid's, on ties and degenerate sets too."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchreid.reid.utils.rerank import re_ranking

from metrics.cases import evaluate_distances, make_case
from watchme.core.errors import WatchmeError
from watchme.metrics import reranking
from watchme.metrics.distance import Distance, pairwise_distance
from watchme.metrics.reranking import reranked_chunks
from watchme.metrics.retrieval import evaluate_features


def reranked(query: Tensor, gallery: Tensor, **options: Any) -> Tensor:
    return torch.cat([block.clone() for block in reranked_chunks(query, gallery, **options)])


def torchreids(query: Tensor, gallery: Tensor, distance: Distance = "euclidean", **options: Any) -> Any:
    pairs = ((query, gallery), (query, query), (gallery, gallery))
    return re_ranking(*(pairwise_distance(*pair, distance).numpy() for pair in pairs), **options)


def assert_equals_torchreid(query: Tensor, gallery: Tensor, **options: Any) -> None:
    ours = reranked(query, gallery, **options)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), torchreids(query, gallery, **options), rtol=0, atol=1e-5)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
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
def test_equal_to_torchreid(grid: float, options: dict[str, Any], distance: Distance) -> None:
    case = make_case(0, 60, 240, grid=grid)
    # Cosines of a coarse grid have ties that rounding breaks, in the matrix product as elsewhere.
    if grid and distance == "cosine":
        pytest.skip("ties of cosines are not exact")
    assert_equals_torchreid(case.query, case.gallery, distance=distance, **options)


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


def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that end within the queries, within the gallery, and across the border."""
    case = make_case(3, 100, 220, grid=1.0)
    whole = reranked(case.query, case.gallery)
    monkeypatch.setattr(reranking, "BLOCK_BYTES", 1)
    assert torch.equal(reranked(case.query, case.gallery, rows=1), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    case = make_case(4)
    half = (case.query.to(dtype), case.gallery.to(dtype))
    assert torch.equal(reranked(*half), reranked(*(part.float() for part in half)))


@pytest.mark.parametrize("normalize", [True, False])
def test_metrics_are_those_of_torchreids_distances(normalize: bool) -> None:
    case = make_case(5)
    features = (case.query, case.gallery)
    if normalize:
        features = tuple(torch.nn.functional.normalize(part, dim=1) for part in features)  # type: ignore[assignment]
    ours = evaluate_features(case.query, case.gallery, *case.ids, normalize=normalize, rerank=True)
    theirs = evaluate_distances(torch.from_numpy(torchreids(*features)), *case.ids)
    assert ours.map == pytest.approx(theirs.map, abs=1e-6)
    np.testing.assert_allclose(ours.cmc, theirs.cmc, atol=1e-6)


def test_copies_of_one_image_are_all_alike() -> None:
    """torchreid divides 0 by 0 here; distances of 0 stay 0, and only the k1 + 1 kept neighbours can differ."""
    ours = reranked(torch.zeros(2, 3), torch.zeros(5, 3))
    torch.testing.assert_close(ours, torch.zeros(2, 5), rtol=0, atol=1e-6)


def test_unfit_input_is_refused() -> None:
    good = torch.ones(2, 5), torch.ones(4, 5)
    broken = good[1].clone()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="gallery features: 1 of 4 rows hold NaN or infinity"):
        reranked(good[0], broken)
    refused: list[dict[str, Any]] = [{"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}]
    for options in refused:
        with pytest.raises(ValueError, match="k1 and k2 must be at least 1"):
            reranked(*good, **options)


def test_too_little_memory_is_refused_before_any_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(6)
    monkeypatch.setattr(reranking, "available_memory", lambda: 2**20)
    monkeypatch.setattr(reranking, "_nearest", None)
    with pytest.raises(WatchmeError, match=r"re-ranking 190 images takes about .* evaluation\.rerank=false"):
        reranked(case.query, case.gallery)
