"""A person-search test set: frames, boxes, identities and queries, and its validation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from watchme.core.errors import DataError

Boxes = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

UNKNOWN = 0
"""Identity of an unnamed person: to be detected, and a distractor in every search."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of one camera."""

    path: Path  # the image
    boxes: Boxes  # (n, 4) float64: x1, y1, x2, y2 of each person, pixels
    pids: Ids  # (n,) int64 identities, from 1; `UNKNOWN` where it is not known
    camera: int | None = None  # its number; None where the dataset does not say
    # (m, 4) boxes in which a detection is neither right nor wrong
    ignored: Boxes = field(default_factory=lambda: np.zeros((0, 4)))


@dataclass(frozen=True)
class Query:
    """A person to be looked for."""

    frame: int  # number of the frame that they are cut out of
    box: tuple[float, float, float, float]  # x1, y1, x2, y2, pixels
    pid: int  # who it is
    # Numbers of the frames to look in; None: all. The query's own frame is never looked in.
    gallery: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class SearchSet:
    """A whole person-search test set."""

    root: Path  # its folder or file
    format: str  # the reader's name
    frames: Sequence[Frame]  # in the dataset's order
    queries: Sequence[Query]  # in the dataset's order
    small_boxes: bool = False  # whether its published evaluation lowers the IoU that a small box must reach
    names: Mapping[int, str] = field(default_factory=dict)  # name of an identity, where it is not its number
    assumed: tuple[str, ...] = ()  # what the reader took for granted, one sentence each

    def name_of(self, pid: int) -> str:
        """How an identity is called in tables and pictures."""
        return self.names.get(pid, str(pid))

    @property
    def fingerprint(self) -> str:
        """A hash of all names, boxes, identities and queries; equal for equal annotations wherever they are."""
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(f"{frame.path.name} {frame.camera}".encode())
            for values in (frame.boxes, frame.pids, frame.ignored):
                digest.update(values.tobytes())
        digest.update(repr(self.queries).encode())
        return digest.hexdigest()[:16]


def validated(found: SearchSet) -> SearchSet:
    """Return a dataset that can be evaluated: one box an identity and frame, images on disk, queries with a match.

    Raises:
        DataError: If there are no frames, people or queries, or images are missing.
    """
    if not found.frames:
        raise DataError(f"{found.root} has no frames")
    missing = [frame.path for frame in found.frames if not frame.path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(found.frames)} frames of {found.root} are missing, e.g. {missing[0]}")
    assumed = list(found.assumed)
    frames = [_once(frame) for frame in found.frames]
    twice = sum(
        int((old.pids != UNKNOWN).sum() - (new.pids != UNKNOWN).sum())
        for old, new in zip(found.frames, frames, strict=True)
    )
    if twice:
        assumed.append(
            f"{twice} boxes have an identity that another box of their frame has, too: the first one is taken, the "
            f"others count as people of unknown identity"
        )
    if not any(len(frame.pids) for frame in frames):
        raise DataError(f"{found.root} has no people in any of its {len(frames)} frames")
    if not found.queries:
        raise DataError(f"no identity of {found.root} is seen in two frames, so there is nobody to look for")
    return replace(found, frames=frames, assumed=tuple(assumed))


def _once(frame: Frame) -> Frame:
    """The frame with each identity at most once: later boxes of it become unknown."""
    pids = frame.pids.copy()
    for pid in np.unique(pids[pids != UNKNOWN]):
        pids[np.flatnonzero(pids == pid)[1:]] = UNKNOWN
    return replace(frame, pids=pids)


def choose_queries(frames: Sequence[Frame]) -> list[Query]:
    """One query of each identity and camera, for datasets that name none: the middle one of their sightings.

    An identity that is seen in one frame only is left out, as there is nothing to be found.
    """
    sightings: dict[int, dict[int | None, list[tuple[int, int]]]] = {}
    for number, frame in enumerate(frames):
        for place, pid in enumerate(frame.pids.tolist()):
            if pid != UNKNOWN:
                sightings.setdefault(pid, {}).setdefault(frame.camera, []).append((number, place))
    queries = []
    for pid, by_camera in sorted(sightings.items()):
        if len({number for seen in by_camera.values() for number, _ in seen}) < 2:
            continue
        for seen in by_camera.values():
            number, place = seen[len(seen) // 2]
            x1, y1, x2, y2 = frames[number].boxes[place].tolist()
            queries.append(Query(number, (x1, y1, x2, y2), pid))
    return queries


def corners(boxes: npt.ArrayLike) -> Boxes:
    """(n, 4) boxes given as x, y, width, height, as x1, y1, x2, y2."""
    array = np.array(boxes, np.float64).reshape(-1, 4)
    array[:, 2:] += array[:, :2]
    return array
