"""How sure a match is: beside the re-ID run's similarities, or those of people who are in one frame."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError
from watchme.inference.match_confidence import Certainty, of_frames, of_run
from watchme.metrics.verification import BINS, Similarities, count_similarities


def made(count: int = 1000) -> Similarities:
    values = np.linspace(-0.5, 0.5, count)
    return Similarities(count_similarities(values + 0.4), count_similarities(values), "val", 7)


def run_folder(root: Path, similarities: Similarities | None) -> Path:
    (root / "weights").mkdir(parents=True)
    for name in ("run.json", "config.yaml"):
        (root / name).write_text("{}")
    if similarities is not None:
        (root / "calibration.json").write_text(json.dumps(similarities.as_json()))
    return root / "weights" / "best.pt"


def test_a_run_brings_its_similarities_along(tmp_path: Path) -> None:
    found = of_run(run_folder(tmp_path, made()))
    assert found is not None
    assert found.threshold() == made().threshold() == pytest.approx(0.49, abs=0.002)


def test_a_run_or_file_without_them_has_none(tmp_path: Path) -> None:
    assert of_run(run_folder(tmp_path / "run", None)) is None
    assert of_run(tmp_path / "plain.pth") is None


def test_those_of_means_are_a_part_that_older_files_lack(tmp_path: Path) -> None:
    weights = run_folder(tmp_path, made())
    assert of_run(weights, means=True) is None
    (tmp_path / "calibration.json").write_text(json.dumps({**made().as_json(), "means": made(500).as_json()}))
    found = of_run(weights, means=True)
    assert found is not None
    assert int(found.non_mated.sum()) == 500


def test_too_few_comparisons_are_none(tmp_path: Path) -> None:
    assert of_run(run_folder(tmp_path, made(50))) is None


def test_those_of_an_evaluation_can_be_named(tmp_path: Path) -> None:
    weights, other = run_folder(tmp_path / "run", None), run_folder(tmp_path / "evaluation", made())
    for named in (other.parent.parent, other.parent.parent / "calibration.json"):
        assert of_run(weights, named) is not None


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    weights = run_folder(tmp_path, None)
    with pytest.raises(CheckpointError, match="is not there"):
        of_run(weights, tmp_path)
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"calibration\.json cannot be used"):
        of_run(weights)


def test_a_share_that_is_a_whole_tenth_of_a_percent_is_not_rounded_down() -> None:
    """1 - 0.07 is a little below 0.93, and stood there as 92.9%."""
    for above in range(1, 1000):
        values = count_similarities(np.array([0.9] * above + [0.1] * (1000 - above)))
        certain = Certainty(Similarities(np.zeros_like(values), values), "made up")
        assert certain.in_words(0.5) == f"{(1000 - above) / 10:.1f}%"


def test_certainty_in_words() -> None:
    certain = Certainty(made(), "somewhere")
    assert certain.in_words(0.45) == "95.0%"
    assert certain.in_words(0.7) == "all 1,000"
    assert certain.higher_than(0.0) == pytest.approx(0.5, abs=0.002)
    unknown = Certainty(None, "")
    assert math.isnan(unknown.threshold)
    assert unknown.in_words(0.5) == "\u2013"


def test_people_of_one_frame_are_different_people() -> None:
    """Against a loop over all pairs; boxes on each other are no pair."""
    rng = np.random.default_rng(0)
    frame = np.sort(rng.integers(0, 12, 40)).astype(np.int64)
    corners = rng.uniform(0, 200, (40, 2))
    box = np.concatenate([corners, corners + rng.uniform(20, 80, (40, 2))], axis=1).astype(np.float32)
    embedding = rng.normal(size=(40, 8)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)

    def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
        both = max(0, sides[0]) * max(0, sides[1])
        areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
        return float(both / (sum(areas) - both))

    expected = [
        float(embedding[i] @ embedding[j])
        for i in range(40)
        for j in range(i + 1, 40)
        if frame[i] == frame[j] and overlap(box[i], box[j]) < 0.1
    ]
    found = of_frames(frame, box, embedding)
    assert found.non_mated.tolist() == count_similarities(np.array(expected)).tolist()
    assert found.mated.sum() == 0


def test_nobody_gives_no_pairs() -> None:
    nobody = of_frames(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros((0, 8), np.float32))
    assert nobody.non_mated.shape == (BINS,)
    assert not nobody.is_sound
