"""One pass over the frames: detect people, crop them, embed the crops. Only boxes and embeddings are kept."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import DataError
from watchme.core.interfaces import Detector, Embedder
from watchme.core.progress import Progress
from watchme.data.images import read_image
from watchme.data.person_search.search_set import SearchSet
from watchme.data.pixel_boxes import Size, clipped
from watchme.engines.person_search.config import SearchEvaluation
from watchme.inference.frames import Image8
from watchme.inference.pipeline import cut_out
from watchme.metrics.detection import Detections, People
from watchme.metrics.person_search import Features, Queries

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """Detections and embeddings of a dataset."""

    data: SearchSet  # the dataset without the frames that could not be read
    people: People  # the annotated people
    everything: Detections  # all detections
    detections: Detections  # the gallery: detections with a confidence of at least `evaluation.confidence`
    features: Features  # (N, D) of `detections`
    drawn: Features  # (P, D) of `people`, in their annotated boxes
    queries: Queries  # the people to find
    unreadable: tuple[Path, ...]  # frames that could not be read


def embed_frames(
    data: SearchSet, detector: Detector, embedder: Embedder, config: SearchEvaluation, workers: int
) -> FrameFeatures:
    """Run both models on every frame, which `workers` threads read.

    Raises:
        DataError: If no frame or no query can be read, most queries are outside of their frames, or cameras are needed
            and unknown.
    """
    crops = _Crops(embedder, config.crop_batch)
    found: list[NDArray[np.float32]] = []
    readable: list[int] = []
    asked: dict[int, list[int]] = {}
    outside: list[tuple[Path, Size]] = []  # frames of queries whose box has no pixel of them
    for number, query in enumerate(data.queries):
        asked.setdefault(query.frame, []).append(number)
    for numbers, images in _batches([frame.path for frame in data.frames], config.frame_batch, workers):
        there = [(number, image) for number, image in zip(numbers, images, strict=True) if image is not None]
        for (number, image), rows in zip(there, detector.detect([image for _, image in there]), strict=True):
            frame = data.frames[number]
            found.append(rows)
            readable.append(number)
            chosen = rows[rows[:, 4] >= config.confidence, :4]
            queries = [data.queries[query].box for query in asked.get(number, ())]
            size = image.shape[1], image.shape[0]
            outside += [(frame.path, size) for box in queries if clipped(box, size) is None]
            for kind, boxes in enumerate((chosen.tolist(), frame.boxes.tolist(), queries)):
                for box in boxes:
                    crops.add(kind, cut_out(image, box))
    data, unreadable, order = _less_unreadable(data, readable, asked)
    _require_pixels(data, outside)
    features, drawn, wanted = crops.all()
    people, everything = _people(data), _detections(found)
    pids = np.array([query.pid for query in data.queries], np.int64)
    queries_of = Queries(wanted[np.argsort(order, kind="stable")], pids, _allowed(data, config.gallery))
    gallery = everything.chosen(everything.scores >= config.confidence)
    return FrameFeatures(data, people, everything, gallery, features, drawn, queries_of, unreadable)


def read_frame(path: Path) -> Image8:
    """(H, W, 3) uint8 RGB, the right way up.

    Raises:
        DataError: If the file is missing, truncated or no image.
    """
    return np.asarray(read_image(path))


def _batches(paths: Sequence[Path], size: int, workers: int) -> Iterator[tuple[range, list[Image8 | None]]]:
    """Numbers and images of the frames in batches; the next batch is read in the background."""

    def read(path: Path) -> Image8 | None:
        try:
            return read_frame(path)
        except DataError as error:
            log.warning("%s", error)
            return None

    starts = range(0, len(paths), size)
    with ThreadPoolExecutor(max(1, workers)) as pool, Progress("Frames", len(paths), "frame") as bar:
        begun = [pool.submit(read, path) for path in paths[:size]]
        for start in starts:
            current = begun
            begun = [pool.submit(read, path) for path in paths[start + size : start + 2 * size]]
            yield range(start, start + len(current)), [reading.result() for reading in current]
            bar.update(len(current))


class _Crops:
    """Crops of several kinds, embedded in common batches; only the embeddings are kept."""

    def __init__(self, embedder: Embedder, size: int) -> None:
        self._embedder = embedder
        self._size = size
        self._waiting: list[Image8] = []
        self._kinds: list[int] = []
        self._parts: list[Features] = []

    def add(self, kind: int, crop: Image8) -> None:
        # A copy, as a view would keep the whole frame in memory.
        self._waiting.append(crop.copy())
        self._kinds.append(kind)
        if len(self._waiting) >= self._size:
            self._embed()

    def all(self, kinds: int = 3) -> list[Features]:
        """The embeddings of each kind, in the order of `add`."""
        self._embed()
        features = np.concatenate(self._parts)
        whose = np.array(self._kinds)
        return [features[whose == kind] for kind in range(kinds)]

    def _embed(self) -> None:
        self._parts.append(self._embedder.embed(self._waiting))
        self._waiting = []


def _less_unreadable(
    data: SearchSet, readable: list[int], asked: dict[int, list[int]]
) -> tuple[SearchSet, tuple[Path, ...], list[int]]:
    """The dataset of the readable frames, the unreadable files, and the order in which the queries were cropped."""
    if not readable:
        raise DataError(f"none of the {len(data.frames)} frames of {data.root} can be read")
    order = [query for number in readable for query in asked.get(number, ())]
    if not order:
        raise DataError(f"no frame of {data.root} with a query can be read")
    unreadable = tuple(frame.path for number, frame in enumerate(data.frames) if number not in set(readable))
    if not unreadable:
        return data, (), order
    new = {number: place for place, number in enumerate(readable)}
    queries = [
        replace(
            query,
            frame=new[query.frame],
            gallery=None if query.gallery is None else tuple(new[each] for each in query.gallery if each in new),
        )
        for query in data.queries
        if query.frame in new
    ]
    return replace(data, frames=[data.frames[number] for number in readable], queries=queries), unreadable, order


def _require_pixels(data: SearchSet, outside: Sequence[tuple[Path, Size]]) -> None:
    """Raise a `DataError` where most queries have no pixel: whatever was measured of them would mean nothing."""
    if 2 * len(outside) > len(data.queries):
        path, (width, height) = outside[0]
        raise DataError(
            f"{len(outside)} of {len(data.queries)} queries of {data.root} are boxes outside of their frames, e.g. in "
            f"{path.name}, which measures {width} x {height}. Are the boxes of frames of another size?"
        )


def _people(data: SearchSet) -> People:
    frames = data.frames
    return People(
        np.repeat(np.arange(len(frames)), [len(frame.pids) for frame in frames]),
        np.concatenate([frame.boxes for frame in frames]),
        np.concatenate([frame.pids for frame in frames]),
        np.repeat(np.arange(len(frames)), [len(frame.ignored) for frame in frames]),
        np.concatenate([frame.ignored for frame in frames]),
    )


def _detections(found: Sequence[NDArray[np.float32]]) -> Detections:
    rows = np.concatenate(found).astype(np.float64)
    return Detections(np.repeat(np.arange(len(found)), [len(part) for part in found]), rows[:, :4], rows[:, 4])


def _allowed(data: SearchSet, gallery: str) -> NDArray[np.bool_]:
    """(Q, F) whether each frame is in the gallery of a query."""
    cameras = [frame.camera for frame in data.frames]
    if gallery == "other_cameras" and None in cameras:
        place = data.frames[cameras.index(None)].path.name
        raise DataError(f"evaluation.gallery=other_cameras needs the camera of each frame; {place} has none")
    numbers = np.array([-1 if camera is None else camera for camera in cameras])
    allowed = np.ones((len(data.queries), len(cameras)), bool)
    for row, query in zip(allowed, data.queries, strict=True):
        if query.gallery is not None:
            row[:] = False
            row[list(query.gallery)] = True
        row[query.frame] = False
        if gallery == "other_cameras":
            row[numbers == numbers[query.frame]] = False
    return allowed
