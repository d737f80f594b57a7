"""Ranks the sightings of a source by their similarity to a query, and joins matches to the times of an appearance."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watchme.inference.index import Hits
from watchme.inference.match_results import Stretch
from watchme.inference.sightings import Sightings
from watchme.metrics.verification import unit_rows

_ROWS = 1 << 16  # embeddings that are read at once


@dataclass(frozen=True, eq=False)
class Ranking:
    """Sightings, the most similar first."""

    place: NDArray[np.int64]  # (K,) of each in the columns of `Sightings`
    similarity: NDArray[np.float32]  # (K,) cosine of query and sighting, or of the mean of its track, -1 to 1
    is_match: NDArray[np.bool_]  # (K,) whether it reaches the threshold


@dataclass(frozen=True)
class Appearance(Stretch):
    """A stretch of the sightings of a source."""

    best: int  # place of the best match in the columns of `Sightings`
    places: tuple[int, ...] = ()  # those of all, in order of time


def mean_embedding(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, D) embeddings of one person to one of unit norm, shape (D,): their mean, as of the images of a tracklet."""
    mean = embeddings.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def track_means(track: NDArray[np.int64], embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean embedding of each track, of unit norm: average pooling over a tracklet (MARS; Zheng et al., ECCV 2016).

    Args:
        track: (N,) number of each sighting's track, or person, from 1 on.
        embedding: (N, D); may be a memory map, of which a part at a time is read.

    Returns:
        (T, D), in the order of the numbers.
    """
    sums = np.zeros((int(track.max(initial=0)), embedding.shape[1]), np.float32)
    for start in range(0, len(track), _ROWS):
        rows = slice(start, start + _ROWS)
        order = np.argsort(track[rows], kind="stable")
        numbers, first = np.unique(track[rows][order], return_index=True)
        sums[numbers - 1] += np.add.reduceat(np.asarray(embedding[rows], np.float32)[order], first, axis=0)
    return unit_rows(sums)


def of_persons(hits: Hits, sightings: Sightings, query: NDArray[np.float32], most: int) -> Hits:
    """The sightings of the persons that were found, each as similar as its person is.

    Args:
        hits: Of a search among the means of persons.
        sightings: All, with persons from 1 on.
        query: (D,) what was looked for; of each person the sightings most like it come first.
        most: So many sightings at most.
    """
    assert sightings.embedding is not None
    rank = np.full(int(sightings.person.max(initial=0)) + 1, len(hits.place), np.int64)
    rank[hits.place + 1] = np.arange(len(hits.place))
    place = np.argsort(rank[sightings.person], kind="stable")[:most]
    place = np.sort(place[rank[sightings.person[place]] < len(hits.place)])
    ranks = rank[sightings.person[place]]
    order = np.lexsort((-(np.asarray(sightings.embedding[place], np.float32) @ query), ranks))
    return Hits(place[order], hits.similarity[ranks[order]])


def appearances(sightings: Sightings, ranking: Ranking, gap_s: float, gap_frames: int) -> list[Appearance]:
    """The appearances of the person, the most similar first; in a video each is of one track.

    Args:
        sightings: All.
        ranking: Of them.
        gap_s: Matches of a video so many seconds apart, at most, are of one appearance.
        gap_frames: Of pictures, which have no time: at most so many pictures apart.
    """
    matched = ranking.is_match
    frames, tracks = sightings.frame[ranking.place[matched]], _tracks(sightings, ranking.place[matched])
    order = np.lexsort((frames, tracks))
    places, similarity = ranking.place[matched][order], ranking.similarity[matched][order]
    parts = _runs(sightings, places, gap_s, gap_frames)
    found = [_appearance(sightings, places[part], similarity[part]) for part in parts]
    return sorted(found, key=lambda each: -each.similarity)


def _runs(sightings: Sightings, places: NDArray[np.int64], gap_s: float, gap_frames: int) -> Iterator[slice]:
    """Slices of places, in order of tracks and frames, each of one track and without a gap."""
    if not len(places):
        return
    frames, times, tracks = sightings.frame[places], sightings.time[places], _tracks(sightings, places)
    by_time = np.isfinite(times[1:]) & np.isfinite(times[:-1])
    apart = np.where(by_time, np.diff(times) > gap_s, np.diff(frames) > gap_frames) | (np.diff(tracks) != 0)
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(places)]
    yield from (slice(start, end) for start, end in itertools.pairwise(edges))


def _tracks(sightings: Sightings, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The track of each sighting; 0 in pictures, which tracks do not join."""
    return np.where(np.isfinite(sightings.time[places]), sightings.track[places], 0)


def _appearance(sightings: Sightings, places: NDArray[np.int64], similarity: NDArray[np.float32]) -> Appearance:
    best = int(np.argmax(similarity))
    frames, times = sightings.frame[places], sightings.time[places]
    return Appearance(
        first_frame=int(frames[0]),
        last_frame=int(frames[-1]),
        start_s=float(times[0]),
        end_s=float(times[-1]),
        sightings=len(places),
        similarity=float(similarity[best]),
        best=int(places[best]),
        places=tuple(places.tolist()),
    )
