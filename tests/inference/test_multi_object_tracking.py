"""Tracks of people who cross."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.inference.multi_object_tracking import find_tracks, split_tracks
from watchme.inference.sightings import Sightings


def seen(lefts: list[list[int]]) -> Sightings:
    """People of 20 x 60 pixels at these places in each frame, 8 frames a second, without embeddings."""
    frame = np.repeat(np.arange(len(lefts)), [len(each) for each in lefts])
    left: NDArray[np.float32] = np.concatenate([np.array(each, np.float32) for each in lefts])
    index = np.arange(len(lefts))
    return Sightings(
        frame=frame,
        time=frame / 8,
        box=np.stack([left, np.zeros_like(left), left + 20, np.full_like(left, 60)], axis=1),
        score=np.ones(len(left), np.float32),
        track=np.full(len(left), -1, np.int64),
        person=np.full(len(left), -1, np.int64),
        embedding=None,
        frame_index=index,
        frame_time=index / 8,
        frame_name=index.astype(str),
        frame_size=np.full((len(index), 2), 200, np.int32),
    )


@pytest.mark.parametrize("hidden", [False, True], ids=["both seen", "one hidden where they meet"])
def test_people_who_cross_keep_their_numbers(hidden: bool) -> None:
    places = [[10 * number, 90 - 10 * number] for number in range(10)]
    if hidden:
        del places[4][1], places[5][1]
    tracks = find_tracks([seen(places)])
    numbers = [1 if place == 10 * frame else 2 for frame, each in enumerate(places) for place in each]
    assert tracks.of.tolist() == numbers


def facing(angles: NDArray[np.float64], track: NDArray[np.int64]) -> Sightings:
    """A sighting in each frame, whose embeddings are unit vectors in a plane."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return dataclasses.replace(seen([[0]] * len(angles)), embedding=vectors, track=track)


def test_a_track_is_cut_where_it_goes_over_to_somebody_else() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 60)
    # One person; two, who exchange boxes after 12 sightings; three; too short a glimpse of somebody to tell.
    people = [*[0] * 10, *[0] * 12, *[1] * 8, *[1] * 6, *[0] * 7, *[2] * 8, *[2] * 8, 0]
    track = np.repeat([1, 2, 3, 4], [10, 20, 21, 9])
    split = split_tracks(facing(np.array(people) + noise, track), 0.8)
    assert split.of.tolist() == np.repeat([1, 2, 3, 4, 5, 6, 7], [10, 12, 8, 6, 7, 8, 9]).tolist()
    assert split.first.tolist() == [0, 10, 22, 30, 36, 43, 51]
    assert split.last.tolist() == [9, 21, 29, 35, 42, 50, 59]
    assert split.counts.tolist() == [10, 12, 8, 6, 7, 8, 9]
    assert split.means is not None
    assert np.arctan2(*split.means.T[::-1]) == pytest.approx([0, 0, 1, 1, 0, 2, 1.85], abs=0.15)


def test_a_long_track_is_cut_nearly_as_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchme.inference.multi_object_tracking._PIECES", 16)
    angles = np.repeat([0.0, 1.0], [105, 95])
    split = split_tracks(facing(angles, np.ones(200, np.int64)), 0.8)
    assert split.counts.tolist() == [100, 100]


def test_nobody_is_split() -> None:
    one = facing(np.zeros(1), np.ones(1, np.int64))
    nobody = {
        name: getattr(one, name)[:0] for name in ("frame", "time", "box", "score", "track", "person", "embedding")
    }
    assert split_tracks(dataclasses.replace(one, **nobody), 0.8).counts.tolist() == []
