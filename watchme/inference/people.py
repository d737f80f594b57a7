"""Who is who: sightings -> tracks (frame to frame) -> persons (over the whole source).

Tracks: boxes of successive frames are assigned to each other by the Hungarian method at an IoU of at least 0.3, as in
SORT (Bewley et al., 2016), each track expected where its smoothed velocity brings it; embeddings break ties, so that
two people who cross keep their numbers. A track ends when nobody was assigned to it for half a second, or in pictures
that are no video at once.

Persons: the mean embeddings of tracks are merged bottom-up by average linkage (UPGMA; Sokal and Michener, 1958) of
cosine similarity, down to a threshold. Two tracks with a frame in common are never one person.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watchme.inference.sightings import Sightings, rows_by_frame
from watchme.metrics.iou import iou_matrix

_IOU = 0.3
_GAP_S = 0.5
_NEWEST = 0.4  # weight of the last step in a track's velocity, which is smoothed exponentially
# Average linkage needs the similarity of all pairs; beyond so many tracks, the shorter ones join the nearest person.
_MOST_CLUSTERED = 3000
_FORBIDDEN = 1e12  # so large that no average over millions of pairs with one such is below the threshold
Numbers = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Tracks:
    """Tracks of a source.

    Attributes:
        of: (N,) the track of each sighting, from 1 on in the order of their beginnings.
        first: (T,) index of the first frame of each track.
        last: (T,) index of the last.
        counts: (T,) how many sightings.
        means: (T, D) mean embedding of unit norm; None without a re-ID model.
    """

    of: Numbers
    first: Numbers
    last: Numbers
    counts: Numbers
    means: Vectors | None


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
    # Tracks are in the order of their beginnings.
    _, first, inverse = np.unique(persons, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return np.asarray(rank[inverse.reshape(-1)], np.int64)


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
