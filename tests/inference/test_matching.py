"""Appearances: matches close in time are one; and how times are written."""

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.inference.index import ExactIndex
from watchme.inference.matching import Ranking, appearances, mean_embedding, of_persons, track_means
from watchme.inference.sightings import Sightings


def made(frames: list[int], fps: float | None = 10.0) -> Sightings:
    frame = np.array(frames, np.int64)
    index = np.unique(frame)

    def seconds(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        return numbers / fps if fps else np.full(len(numbers), math.nan)

    count = len(frame)
    return Sightings(
        frame=frame,
        time=seconds(frame),
        box=np.tile(np.array([0, 0, 10, 20], np.float32), (count, 1)),
        score=np.ones(count, np.float32),
        track=np.full(count, -1, np.int64),
        person=np.full(count, -1, np.int64),
        embedding=np.zeros((count, 2), np.float32),
        frame_index=index,
        frame_time=seconds(index),
        frame_name=np.array([f"f{number}" for number in index]),
        frame_size=np.full((len(index), 2), 100, np.int32),
    )


def ranked(similarity: list[float], threshold: float) -> Ranking:
    values = np.array(similarity, np.float32)
    order = np.argsort(-values, kind="stable")
    return Ranking(order, values[order], values[order] >= threshold)


def test_matches_close_in_time_are_one_appearance() -> None:
    sightings = made([0, 3, 10, 40, 41, 200])
    found = appearances(sightings, ranked([0.8, 0.9, 0.7, 0.95, 0.6, 0.2], 0.5), 1.0, 1)
    assert [(each.first_frame, each.last_frame, each.sightings) for each in found] == [(40, 41, 2), (0, 10, 3)]
    assert found[0].similarity == pytest.approx(0.95)
    assert found[1].best == 1
    assert (found[1].start_s, found[1].end_s) == (0.0, 1.0)


def test_what_lies_between_and_does_not_match_joins_nothing() -> None:
    sightings = made([0, 10, 20, 30])
    found = appearances(sightings, ranked([0.9, 0.1, 0.1, 0.8], 0.5), 1.5, 1)
    assert [each.sightings for each in found] == [1, 1]


def test_two_people_at_once_are_two_appearances() -> None:
    sightings = made([0, 0, 1, 1, 2, 2])
    sightings.track[:] = [1, 2, 1, 2, 1, 2]
    found = appearances(sightings, ranked([0.9, 0.6, 0.8, 0.7, 0.85, 0.65], 0.5), 1.0, 1)
    assert [each.places for each in found] == [(0, 2, 4), (1, 3, 5)]


def test_pictures_without_time_go_by_their_numbers() -> None:
    found = appearances(made([0, 1, 3, 4], fps=None), ranked([0.9, 0.8, 0.7, 0.6], 0.5), 1.0, 1)
    assert [(each.first_frame, each.last_frame) for each in found] == [(0, 1), (3, 4)]
    assert math.isnan(found[0].start_s)


def test_nobody_appears_where_nothing_matches() -> None:
    assert appearances(made([0, 1]), ranked([0.4, 0.3], 0.5), 1.0, 1) == []
    assert appearances(made([0, 1]), ranked([0.4, 0.3], math.nan), 1.0, 1) == []


def test_several_pictures_are_averaged_to_unit_norm() -> None:
    mean = mean_embedding(np.array([[1, 0], [0, 1]], np.float32))
    assert mean == pytest.approx([0.5**0.5, 0.5**0.5])


def test_a_sighting_is_as_similar_as_the_mean_of_its_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchme.inference.matching._ROWS", 7)
    rng = np.random.default_rng(0)
    sightings = made(list(range(40)))
    sightings.person[:] = np.concatenate([np.arange(1, 6), rng.integers(1, 6, 35)])
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sightings = dataclasses.replace(sightings, embedding=vectors)
    means = track_means(sightings.person, vectors)
    expected = {}
    for person in range(1, 6):
        mean = vectors[sightings.person == person].mean(axis=0)
        expected[person] = mean / np.linalg.norm(mean)
        assert means[person - 1] == pytest.approx(expected[person], abs=1e-6)
    query = vectors[3]
    own = vectors @ query
    wanted = sorted(range(40), key=lambda i: (-float(expected[int(sightings.person[i])] @ query), -float(own[i])))
    found = of_persons(ExactIndex(means).search(query, 3), sightings, query, 40)
    assert found.place.tolist() == [
        i for i in wanted if sightings.person[i] in {sightings.person[j] for j in found.place}
    ]
    assert len(set(sightings.person[found.place].tolist())) == 3
    assert found.similarity == pytest.approx(
        [expected[int(sightings.person[i])] @ query for i in found.place], abs=1e-6
    )
    assert len(of_persons(ExactIndex(means).search(query, 5), sightings, query, 12).place) == 12
