"""Tracks of people who cross."""

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.inference.people import find_tracks
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
