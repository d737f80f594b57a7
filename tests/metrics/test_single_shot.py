"""The CUHK03 protocol against torchreid's, with the same random galleries."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torchreid.reid.metrics import rank as torchreid_rank

from metrics.cases import Case, evaluate_distances, make_case
from watchme.metrics.distance import pairwise_distance


def theirs(monkeypatch: pytest.MonkeyPatch, case: Case, seed: int) -> tuple[npt.NDArray[Any], float]:
    with warnings.catch_warnings():
        # torchreid says np.bool where it means bool; numpy 1.x has no such name (numpy 2 has it back).
        warnings.simplefilter("ignore")
        monkeypatch.setattr(np, "bool", bool, raising=False)
    distances = pairwise_distance(case.query, case.gallery).numpy()
    np.random.seed(seed)
    cmc, mean_ap = torchreid_rank.eval_cuhk03(distances, *case.ids, 5)
    return cmc, float(mean_ap)


def legacy_state() -> npt.NDArray[Any]:
    """The words of numpy's global generator."""
    state: Any = np.random.get_state()
    return np.asarray(state[1]).copy()


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("grid", [0.0, 1.0])
def test_equal_to_torchreid_with_the_same_seed(monkeypatch: pytest.MonkeyPatch, seed: int, grid: float) -> None:
    case = make_case(seed, 30, 200, grid=grid)
    cmc, mean_ap = theirs(monkeypatch, case, seed)
    ours = evaluate_distances(
        pairwise_distance(case.query, case.gallery), *case.ids, metric="cuhk03", max_rank=5, seed=seed
    )
    np.testing.assert_allclose(ours.cmc, cmc, rtol=0, atol=1e-6)
    assert ours.map == pytest.approx(mean_ap, abs=1e-6)


def test_the_seed_decides_and_numpy_s_global_state_is_left_alone() -> None:
    case = make_case(1, 30, 200)
    distances = pairwise_distance(case.query, case.gallery)
    before = legacy_state()

    seeds: list[int | np.random.RandomState] = [3, 3, np.random.RandomState(3), 4]
    curves = [evaluate_distances(distances, *case.ids, metric="cuhk03", seed=seed).cmc.tolist() for seed in seeds]
    assert curves[0] == curves[1] == curves[2] != curves[3]
    np.testing.assert_array_equal(before, legacy_state())


def test_only_the_curve_differs_from_market1501() -> None:
    case = make_case(2, 30, 200)
    distances = pairwise_distance(case.query, case.gallery)
    single = evaluate_distances(distances, *case.ids, metric="cuhk03")
    whole = evaluate_distances(distances, *case.ids)
    assert (single.map, single.minp) == (whole.map, whole.minp)
    assert single.rank(1) < whole.rank(1)
    assert single.rank(12) == pytest.approx(1)  # with 12 people, a gallery of one image each ends there
