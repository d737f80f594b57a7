"""False and true match rates against a loop over all pairs, and thresholds against sorted similarities."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from watchme.metrics.verification import (
    BINS,
    Similarities,
    compare_pairs,
    count_similarities,
    draw_similarities,
    mean_by_camera,
)

Array = NDArray[Any]


def made(seed: int = 0, count: int = 60) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, 7, count)
    features = rng.normal(size=(7, 16))[pids] + 0.7 * rng.normal(size=(count, 16))
    return features.astype(np.float32), pids, rng.integers(0, 3, count)


def pairs_by_a_loop(
    one: tuple[Array, Array, Array], other: tuple[Array, Array, Array]
) -> tuple[list[float], list[float]]:
    mated: list[float] = []
    non_mated: list[float] = []
    for feature, pid, cam in zip(*one, strict=True):
        for candidate, candidate_pid, candidate_cam in zip(*other, strict=True):
            if cam == candidate_cam or candidate_pid not in one[1]:
                continue
            similarity = feature @ candidate / np.linalg.norm(feature) / np.linalg.norm(candidate)
            (mated if pid == candidate_pid else non_mated).append(float(similarity))
    return mated, non_mated


def test_rates_are_those_of_a_loop_over_all_pairs() -> None:
    one, other = made(0), made(1, 90)
    other[1][:5] = 99  # nobody whom the first set knows
    found = compare_pairs(one[0], other[0], one[1], other[1], one[2], other[2])
    mated, non_mated = pairs_by_a_loop(one, other)
    assert found.mated.sum() == len(mated)
    assert found.non_mated.sum() == len(non_mated)
    for edge in (-0.5, 0.0, 0.213, 0.5, 0.8):
        assert found.false_match_rate(edge) == pytest.approx(np.mean(np.array(non_mated) >= edge), abs=1e-4)
        assert found.true_match_rate(edge) == pytest.approx(np.mean(np.array(mated) >= edge), abs=1e-4)
    assert found.identities == len(np.unique(one[1]))


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_the_threshold_is_the_lowest_that_keeps_the_rate(rate: float) -> None:
    values = np.random.default_rng(3).normal(0.2, 0.2, 20_000).clip(-1, 1)
    found = Similarities(np.zeros(BINS, np.int64), count_similarities(values))
    threshold = found.threshold(rate)
    assert np.mean(values >= threshold) <= rate
    assert np.mean(values >= threshold - 0.002) > rate
    allowed = np.sort(values)[::-1][int(rate * len(values))]
    assert threshold == pytest.approx(allowed, abs=0.002)


def test_a_similarity_at_an_edge_counts_from_that_edge_on() -> None:
    found = Similarities(np.zeros(BINS, np.int64), count_similarities(np.array([0.3, 0.5004, 0.7])))
    for place in range(-1000, 1001):
        edge = place / 1000
        expected = np.mean(np.array([0.3, 0.5, 0.7]) >= edge)
        assert found.false_match_rate(edge) == pytest.approx(expected, abs=1e-9), edge
    assert found.false_match_rate(np.array([-1.0, 0.6, 1.0])).tolist() == pytest.approx([1, 1 / 3, 0])


def test_without_pairs_nothing_is_claimed() -> None:
    one = made(0)
    nobody = compare_pairs(one[0], one[0][:0], one[1], one[1][:0], one[2], one[2][:0])
    assert math.isnan(nobody.threshold())
    assert np.isnan(nobody.false_match_rate(0.3))
    assert not nobody.is_sound


def test_means_are_those_of_a_camera_and_an_identity() -> None:
    features, pids, cams = made()
    means, mean_pids, mean_cams = mean_by_camera(features, pids, cams)
    assert len(means) == len(set(zip(pids, cams, strict=True)))
    for mean, pid, cam in zip(means, mean_pids, mean_cams, strict=True):
        own = features[(pids == pid) & (cams == cam)]
        expected = np.mean([each / np.linalg.norm(each) for each in own], axis=0)
        assert mean == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_few_pairs_are_not_enough_for_one_in_a_hundred() -> None:
    assert not Similarities(np.zeros(BINS, np.int64), count_similarities(np.full(99, 0.1))).is_sound
    assert Similarities(np.zeros(BINS, np.int64), count_similarities(np.full(100, 0.1))).is_sound


def test_json_and_back() -> None:
    one, other = made(0), made(1)
    found = compare_pairs(one[0], other[0], one[1], other[1], one[2], other[2], split="val")
    again = Similarities.from_json(found.as_json())
    assert again.as_json() == found.as_json()
    assert again.split == "val"
    both = found + again
    assert both.non_mated.sum() == 2 * found.non_mated.sum()
    assert both.threshold() == found.threshold()


@pytest.mark.parametrize("content", [{}, {"bins": {"mated": [1], "non_mated": [1]}, "split": "", "identities": 1}])
def test_something_else_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="counts"):
        Similarities.from_json(content)


def test_similarities_that_lie_close_together_are_drawn_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An early model has all of them above 0.9: two bars would show nothing."""
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setattr(Axes, "bar", lambda self, places, shares, **_: drawn.append((places, shares)))
    values = np.random.default_rng(0).normal(0.96, 0.01, 5000).clip(-1, 1)
    found = Similarities(count_similarities(values[:1000]), count_similarities(values[1000:]), "val", 9)
    draw_similarities(found, tmp_path / "a.png", title="x")
    for places, shares in drawn:
        assert shares.sum() == pytest.approx(1)
        assert (shares > 0).sum() >= 15
        assert np.average(places, weights=shares) == pytest.approx(0.96, abs=0.003)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    one, other = made(0), made(1)
    found = compare_pairs(one[0], other[0], one[1], other[1], one[2], other[2])
    draw_similarities(found, tmp_path / "a.png", title="osnet on demo, val")
    assert Image.open(tmp_path / "a.png").width > 500
