"""Who is who: sightings -> tracks (frame to frame) -> persons (over the whole source).

Tracks: boxes of successive frames are assigned to each other by the Hungarian method at an IoU of at least 0.3, as in
SORT (Bewley et al., 2016), each track expected where its smoothed velocity takes it; embeddings break ties, so that
two people who cross keep their numbers. A track ends when nobody was assigned to it for half a second, or in pictures
that are no video at once.

Splits: people who cross may exchange their boxes. A track is cut where its two parts are each most alike, if they are
less similar than tracks of one person, and its parts likewise: binary segmentation (Scott and Knott, 1974), as
tracklets are split by appearance in Wang et al., "Split and Connect" (IEEE TMM, 2022).

Persons: the mean embeddings of tracks are merged bottom-up by average linkage (UPGMA; Sokal and Michener, 1958) of
cosine similarity, down to a threshold. Two tracks with a frame in common are never one person.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watchme.inference.matching import track_means
from watchme.inference.sightings import Sightings, rows_by_frame
from watchme.metrics.iou import iou_matrix

_IOU = 0.3
_GAP_S = 0.5
_NEWEST = 0.4  # weight of the last step in a track's velocity, which is smoothed exponentially
_SHORTEST = 4  # sightings of a part that a track is cut into
_PIECES = 1024  # of a long track, between which it may be cut
# Average linkage needs the similarity of all pairs; beyond so many tracks, the shorter ones join the nearest person.
_MOST_CLUSTERED = 3000
_FORBIDDEN = 1e12  # so large that no average over millions of pairs with one such is below the threshold
Numbers = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Tracks:
    """Tracks of a source."""

    of: Numbers  # (N,) the track of each sighting, from 1 on in the order of their beginnings
    first: Numbers  # (T,) index of the first frame of each track
    last: Numbers  # (T,) index of the last
    counts: Numbers  # (T,) how many sightings
    means: Vectors | None  # (T, D) mean embedding of unit norm; None without a re-ID model


class _Tracker:
    """The tracks so far; only those that still go on keep their last box."""

    def __init__(self) -> None:
        self.of: list[int] = []
        self.first: list[int] = []
        self.last: list[int] = []
        self.counts: list[int] = []
        self.sums: list[NDArray[np.float64]] = []
        self._active: list[int] = []
        self._boxes: dict[int, NDArray[np.float64]] = {}
        self._times: dict[int, float] = {}
        self._velocity: dict[int, NDArray[np.float64]] = {}  # of the centre, pixels a second, as of both corners

    def add(self, frame: int, time: float, boxes: NDArray[np.float64], embeddings: Vectors | None) -> None:
        """Assign the people of one more frame."""
        # A NaN, of pictures, ends all tracks.
        self._active = [track for track in self._active if time - self._times[track] <= _GAP_S]
        numbers = self._assign(time, boxes, embeddings)
        for place, number in enumerate(numbers):
            track = number
            if track < 0:
                track = len(self.first)
                self.first.append(frame)
                self.last.append(frame)
                self.counts.append(0)
                self._active.append(track)
                if embeddings is not None:
                    self.sums.append(np.zeros(embeddings.shape[1]))
            self.of.append(track + 1)
            self.last[track] = frame
            self.counts[track] += 1
            self._move(track, boxes[place], time)
            if embeddings is not None:
                self.sums[track] += embeddings[place]
        for track in self._boxes.keys() - set(self._active):
            del self._boxes[track], self._times[track]
            self._velocity.pop(track, None)

    def _move(self, track: int, box: NDArray[np.float64], time: float) -> None:
        seconds = time - self._times.get(track, time)
        if seconds > 0:
            step = box - self._boxes[track]
            velocity = np.tile((step[:2] + step[2:]) / 2, 2) / seconds
            self._velocity[track] = _NEWEST * velocity + (1 - _NEWEST) * self._velocity.get(track, velocity)
        self._boxes[track], self._times[track] = box, time

    def _expected(self, track: int, time: float) -> NDArray[np.float64]:
        return self._boxes[track] + self._velocity.get(track, np.zeros(4)) * (time - self._times[track])

    def _assign(self, time: float, boxes: NDArray[np.float64], embeddings: Vectors | None) -> list[int]:
        numbers = [-1] * len(boxes)
        if not self._active or not len(boxes):
            return numbers
        from scipy.optimize import linear_sum_assignment

        overlap = iou_matrix(boxes, np.stack([self._expected(track, time) for track in self._active]))
        score = np.where(overlap >= _IOU, overlap, -1e6)
        if embeddings is not None:
            means = np.stack([self.sums[track] / self.counts[track] for track in self._active])
            score = score + embeddings @ means.T
        for place, column in zip(*linear_sum_assignment(score, maximize=True), strict=True):
            if overlap[place, column] >= _IOU:
                numbers[place] = self._active[column]
        return numbers


def find_tracks(parts: Iterable[Sightings]) -> Tracks:
    """Follow people from frame to frame.

    Args:
        parts: Sightings in the order of their frames; a part does not end within a frame.
    """
    tracker = _Tracker()
    for part in parts:
        for place, own in rows_by_frame(part):
            vectors = None if part.embedding is None else np.asarray(part.embedding[own])
            boxes = part.box[own].astype(np.float64)
            tracker.add(int(part.frame_index[place]), float(part.frame_time[place]), boxes, vectors)
    means = None
    if tracker.sums:
        sums = np.stack(tracker.sums)
        means = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    of, first, last = (np.array(each, np.int64) for each in (tracker.of, tracker.first, tracker.last))
    return Tracks(of, first, last, np.array(tracker.counts, np.int64), means)


def tell_apart(sightings: Sightings, same_person: float) -> tuple[Numbers, Numbers]:
    """Track and person of each sighting, (N,) each, by `split_tracks` and `find_persons`."""
    tracks = split_tracks(sightings, same_person)
    return tracks.of, find_persons(tracks, same_person)[tracks.of - 1]


def split_tracks(sightings: Sightings, same_person: float) -> Tracks:
    """Cut tracks where they go over from one person to another.

    Args:
        sightings: All, with tracks from 1 on, and embeddings, of which those of one track at a time are read.
        same_person: Cosine similarity of the means of two parts from which on they are one person.

    Returns:
        The parts, numbered in the order of their beginnings.
    """
    assert sightings.embedding is not None
    order = np.argsort(sightings.track, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(sightings.track[order])) + 1).tolist(), len(order)]
    parts = np.empty(len(order), np.int64)
    number = 0
    for start, end in itertools.pairwise(edges if len(order) else []):
        rows = order[start:end]
        for first, last in itertools.pairwise(_cuts(np.asarray(sightings.embedding[rows], np.float32), same_person)):
            parts[rows[first:last]] = number
            number += 1
    of, first_rows = _numbered(parts)
    counts = np.bincount(of)[1:]
    last_rows = len(of) - 1 - np.unique(of[::-1], return_index=True)[1]
    means = track_means(of, sightings.embedding)
    return Tracks(of, sightings.frame[first_rows], sightings.frame[last_rows], counts, means)


def _cuts(embedding: Vectors, same_person: float) -> list[int]:
    """Where an (n, D) track is cut: the rows at which its parts begin, and n."""
    edges = np.linspace(0, len(embedding), min(len(embedding), _PIECES) + 1).astype(np.int64)
    sums = np.cumsum(np.add.reduceat(embedding, edges[:-1], axis=0), axis=0, dtype=np.float64)
    sums = np.concatenate([np.zeros((1, embedding.shape[1])), sums])
    found, waiting = [0, len(edges) - 1], [(0, len(edges) - 1)]
    while waiting:
        start, end = waiting.pop()
        at = np.arange(start + 1, end)
        at = at[(edges[at] - edges[start] >= _SHORTEST) & (edges[end] - edges[at] >= _SHORTEST)]
        if not len(at):
            continue
        before, after = sums[at] - sums[start], sums[end] - sums[at]
        lengths = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
        # A sum of unit vectors is as long as they are alike: the sum of their cosines with their mean.
        best = int(np.argmax(lengths[0] + lengths[1]))
        if before[best] @ after[best] < same_person * lengths[0][best] * lengths[1][best]:
            found.append(int(at[best]))
            waiting += [(start, int(at[best])), (int(at[best]), end)]
    return edges[sorted(found)].tolist()  # type: ignore[no-any-return]


def _numbered(labels: Numbers) -> tuple[Numbers, Numbers]:
    """Labels as numbers from 1 on in the order of their first appearance, and the places of these."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return np.asarray(rank[inverse.reshape(-1)], np.int64), np.sort(first)


def find_persons(tracks: Tracks, same_person: float) -> Numbers:
    """The person of each track, from 1 on in the order of their first appearance.

    Args:
        tracks: Tracks with embeddings.
        same_person: Mean cosine similarity from which on tracks are merged.

    Returns:
        (T,) numbers; (N,) of sightings are `persons[tracks.of - 1]`.
    """
    assert tracks.means is not None
    count = len(tracks.first)
    chosen = np.sort(np.argsort(-tracks.counts, kind="stable")[:_MOST_CLUSTERED])
    persons = np.zeros(count, np.int64)
    persons[chosen] = _cluster(tracks, chosen, same_person)
    for track in np.setdiff1d(np.arange(count), chosen).tolist():
        alike = tracks.means[chosen] @ tracks.means[track]
        best = int(np.argmax(alike))
        meets = _overlaps(tracks, np.flatnonzero(persons == persons[chosen[best]]), track)
        persons[track] = persons[chosen[best]] if alike[best] >= same_person and not meets else persons.max() + 1
    return _numbered(persons)[0]  # tracks are in the order of their beginnings


def _cluster(tracks: Tracks, chosen: Numbers, same_person: float) -> Numbers:
    if len(chosen) < 2:
        return np.ones(len(chosen), np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    assert tracks.means is not None
    means = tracks.means[chosen]
    distances = np.clip(1 - means @ means.T, 0, 2).astype(np.float64)
    first, last = tracks.first[chosen], tracks.last[chosen]
    distances[(first[:, None] <= last[None, :]) & (first[None, :] <= last[:, None])] = _FORBIDDEN
    np.fill_diagonal(distances, 0)
    merged = linkage(squareform(distances, checks=False), "average")
    return np.asarray(fcluster(merged, 1 - same_person, "distance"), np.int64)


def _overlaps(tracks: Tracks, others: Numbers, track: int) -> bool:
    """Whether a track has frames in common with others."""
    return bool(((tracks.first[others] <= tracks.last[track]) & (tracks.first[track] <= tracks.last[others])).any())
