"""Retrieval scores against torchreid's and against plain loops, ties and degenerate sets included."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchreid.reid.metrics.distance import compute_distance_matrix
from torchreid.reid.metrics.rank import evaluate_rank

from metrics.cases import Case, Ids, evaluate_distances, make_case, naive_scores
from watchme.metrics.distance import Distance, pairwise_distance
from watchme.metrics.retrieval import RetrievalResult, evaluate_features


def assert_equals_torchreid(ours: RetrievalResult, distances: Tensor, ids: Ids, max_rank: int = 10) -> None:
    cmc, mean_ap = evaluate_rank(distances.numpy(), *ids, max_rank=max_rank, use_cython=False)
    assert ours.map == pytest.approx(mean_ap, abs=1e-6)
    np.testing.assert_allclose(ours.cmc[: len(cmc)], cmc, rtol=0, atol=1e-6)


def assert_same(one: RetrievalResult, other: RetrievalResult) -> None:
    """Equal to the last bit."""
    assert (one.map, one.minp, one.num_valid_queries) == (other.map, other.minp, other.num_valid_queries)
    for name in ("cmc", "average_precision", "inverse_negative_penalty", "first_match_rank"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("grid", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("gallery", [60, 1500])
def test_equal_to_torchreid_also_under_ties(distance: Distance, grid: float, gallery: int) -> None:
    case = make_case(3, 90, gallery, grid=grid)
    ours = evaluate_features(case.query, case.gallery, *case.ids, distance=distance, max_rank=10)
    assert_equals_torchreid(ours, compute_distance_matrix(case.query, case.gallery, distance), case.ids)


@pytest.mark.parametrize("levels", [1, 2, 5, 50])
def test_equal_to_torchreid_on_quantised_distances(levels: int) -> None:
    case = make_case(4, 50, 700)
    distances = torch.rand(50, 700, generator=torch.Generator().manual_seed(levels)).mul(levels).floor()
    ours = evaluate_distances(distances, *case.ids, max_rank=10)
    assert_equals_torchreid(ours, distances, case.ids)
    # The order of ties does matter here, or these tests would show nothing (equal rows argsort leaves as they are).
    stable = np.nanmean(naive_scores(distances, case.ids, kind="stable").precision)
    assert (ours.map != pytest.approx(stable, abs=1e-9)) == (levels > 1)


def test_equal_to_torchreid_with_every_gallery_image_twice() -> None:
    case = make_case(5, 80, 300)
    gallery = case.gallery.repeat(2, 1)
    # The copy belongs to somebody else, so that each match ties with a wrong image.
    other = np.concatenate([case.ids[1], (case.ids[1] + 1) % 12])
    ids = (case.ids[0], other, case.ids[2], np.tile(case.ids[3], 2))
    ours = evaluate_features(case.query, gallery, *ids, max_rank=10)
    assert_equals_torchreid(ours, compute_distance_matrix(case.query, gallery), ids)


def test_small_random_cases_against_loops() -> None:
    """Many shapes: few and many people, cameras and images; no ties, some, and nothing but ties."""
    random = np.random.default_rng(0)
    without_match = 0
    for seed in range(250):
        queries, gallery, people, cams = (int(random.integers(1, top)) for top in (9, 30, 8, 4))
        case = make_case(seed, queries, gallery, people=people, cams=cams)
        distances = torch.from_numpy(random.random((queries, gallery)))
        if seed % 3:
            distances = (distances * int(random.integers(1, 12))).floor()
        ours = evaluate_distances(distances, *case.ids, max_rank=40)
        precision, penalty, first = naive_scores(distances, case.ids)
        np.testing.assert_allclose(ours.average_precision, precision, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.inverse_negative_penalty, penalty, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(ours.first_match_rank, first)
        found = [rank for rank in first if not np.isnan(rank)]
        without_match += len(first) - len(found)
        assert ours.num_valid_queries == len(found)
        if found:
            assert ours.map == pytest.approx(np.nanmean(precision), abs=1e-12)
            assert ours.minp == pytest.approx(np.nanmean(penalty), abs=1e-12)
            for k in (1, 3, 40):
                assert ours.rank(k) == pytest.approx(np.mean([rank <= k for rank in found]), abs=1e-12)
    assert without_match > 50


def test_scores_worked_out_by_hand() -> None:
    """Person 1 seen by camera 0; ranks of the gallery below: left out, 1 wrong, 2 match, 3 wrong, 4 match."""
    ids = [1], [1, 2, 1, 3, 1], [0], [0, 0, 1, 1, 2]
    ours = evaluate_distances(torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]]), *ids, max_rank=3)
    assert ours.average_precision.tolist() == [(1 / 2 + 2 / 4) / 2]
    assert ours.inverse_negative_penalty.tolist() == [2 / 4]
    assert ours.first_match_rank.tolist() == [2]
    assert ours.cmc.tolist() == [0, 1, 1]
    assert (ours.rank(1), ours.rank(2)) == (0, 1)


@pytest.mark.parametrize("metric", ["market1501", "cuhk03"])
def test_queries_without_a_match_are_nan_and_not_counted(metric: Any) -> None:
    ids = [1, 1, 9], [1, 1, 2], [0, 7, 0], [0, 7, 0]
    distances = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.1, 0.2, 0.3]])
    ours = evaluate_distances(distances, *ids, metric=metric, max_rank=2)
    assert ours.num_valid_queries == 2
    assert np.isnan(ours.average_precision).tolist() == [False, False, True]
    assert ours.first_match_rank[:2].tolist() == [1, 2]
    assert ours.map == 0.75
    assert ours.cmc.tolist() == [0.5, 1]


@pytest.mark.parametrize("metric", ["market1501", "cuhk03"])
@pytest.mark.parametrize("gallery_pid", [1, 2])
def test_without_any_match_all_is_nan(metric: Any, gallery_pid: int) -> None:
    """Person 2 is not looked for; of person 1 there is only the query's own camera."""
    ours = evaluate_distances(torch.tensor([[0.5, 0.1]]), [1], [gallery_pid] * 2, [0], [0, 0], metric=metric)
    assert np.isnan([ours.map, ours.minp, ours.rank(1)]).all()
    assert np.isnan(ours.cmc).all()
    assert ours.cmc.shape == (50,)
    assert ours.num_valid_queries == 0


@pytest.mark.parametrize("metric", ["market1501", "cuhk03"])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_chunk_size_changes_no_bit(metric: Any, distance: Distance) -> None:
    case = make_case(6, 150, 400, grid=0.5)
    # Scaled by an inexact number: duplicates tie only if rounding is the same in every chunk.
    query, gallery = case.query * 0.1, case.gallery * 0.1
    all_at_once, *chunked = (
        evaluate_features(query, gallery, *case.ids, distance=distance, metric=metric, chunk_bytes=size)
        for size in (10**9, 1, 300_000)
    )
    distances = pairwise_distance(query, gallery, distance)
    chunked += [evaluate_distances(distances, *case.ids, metric=metric, rows=rows) for rows in (64, 150)]
    for result in chunked:
        assert_same(result, all_at_once)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_ranked_in_float32(dtype: torch.dtype) -> None:
    case = make_case(7)
    query, gallery = case.query.to(dtype), case.gallery.to(dtype)
    ours = evaluate_features(query, gallery, *case.ids)
    assert_same(ours, evaluate_features(query.float(), gallery.float(), *case.ids))


def test_double_precision_keeps_apart_what_float32_would_tie() -> None:
    distances = torch.tensor([[1.0 + 1e-12, 1.0]], dtype=torch.float64)
    assert evaluate_distances(distances, [1], [1, 2], [0], [1, 1]).first_match_rank.tolist() == [2]
    assert evaluate_distances(distances.float(), [1], [1, 2], [0], [1, 1]).rank(1) == 1


def test_normalize_makes_euclidean_rank_as_cosine() -> None:
    case = make_case(8)
    arguments = (case.query.double(), case.gallery.double(), *case.ids)
    unit = evaluate_features(*arguments, normalize=True)
    assert unit.map == pytest.approx(evaluate_features(*arguments, distance="cosine").map, abs=1e-9)
    assert abs(unit.map - evaluate_features(*arguments).map) > 1e-3


def test_identities_may_be_tensors_arrays_or_lists_of_any_integer() -> None:
    case = make_case(9)
    expected = evaluate_features(case.query, case.gallery, *case.ids)
    tensors = [torch.from_numpy(part).int() for part in case.ids]
    lists = [part.tolist() for part in case.ids]
    small = [part.astype(np.uint8) for part in case.ids]
    for ids in (tensors, lists, small):
        assert_same(evaluate_features(case.query, case.gallery, *ids), expected)


def test_the_curve_is_level_beyond_the_gallery() -> None:
    case = make_case(10, gallery=20)
    cmc = evaluate_features(case.query, case.gallery, *case.ids, max_rank=30).cmc
    assert cmc.dtype == np.float64
    assert cmc.shape == (30,)
    assert (np.diff(cmc) >= 0).all()
    assert cmc[-1] == 1


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(11, 4, 6)


@pytest.mark.parametrize(
    ("position", "values", "message"),
    [
        (0, [1, 2], r"query_pids must be 4 integers, one an image: got int64 of shape \(2,\)"),
        (1, [1] * 5, "gallery_pids must be 6 integers"),
        (2, [[1], [1], [1], [1]], r"query_cams must be 4 integers.*shape \(4, 1\)"),
        (3, [0.5] * 6, "gallery_cams must be 6 integers.*float64"),
    ],
)
def test_unfit_identities_are_refused(case: Case, position: int, values: list[Any], message: str) -> None:
    ids: list[Any] = list(case.ids)
    ids[position] = values
    with pytest.raises(ValueError, match=message):
        evaluate_features(case.query, case.gallery, *ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "veri"}, "unknown metric 'veri': choose one of market1501, cuhk03"),
        ({"max_rank": 0}, "max_rank must be at least 1, got 0"),
        ({"distance": "l1"}, "unknown distance 'l1'"),
    ],
)
def test_unknown_options_are_refused(case: Case, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_features(case.query, case.gallery, *case.ids, **options)


def test_non_finite_features_are_counted(case: Case) -> None:
    query = case.query.clone()
    query[:3, 0] = torch.inf
    with pytest.raises(ValueError, match="query features: 3 of 4 rows hold NaN or infinity"):
        evaluate_features(query, case.gallery, *case.ids)
    with pytest.raises(ValueError, match="query features are empty"):
        evaluate_features(query[:0], case.gallery, [], case.ids[1], [], case.ids[3])


@pytest.mark.parametrize("k", [0, 51])
def test_a_rank_outside_the_curve_is_refused(case: Case, k: int) -> None:
    with pytest.raises(ValueError, match="choose 1 to 50"):
        evaluate_features(case.query, case.gallery, *case.ids).rank(k)
