"""The person who is looked for: found in one or several pictures, and embedded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import ConfigError, DataError, Problem
from watchme.core.interfaces import Detector, Embedder
from watchme.inference.frames import Frame, Image8
from watchme.inference.matching import mean_embedding
from watchme.inference.pipeline import cut_out
from watchme.inference.sources import open_source
from watchme.metrics.iou import box_areas, intersection_matrix

# Grey around the picture, in shares of its size. A person who fills a picture may be larger than any that the detector
# was trained with: without, one of the demo's finds nobody in 4 of 12 portraits, and with these a good box in each.
_BORDERS = (0.0, 0.5, 1.0)
_GREY = 114  # ultralytics' letterbox
_SURE = 0.5  # of the surest detection's confidence
_PART = 0.6  # of a box within another from which on it is the same person


@dataclass(frozen=True, eq=False)
class QueryPicture:
    """A picture of the person."""

    name: str  # of the picture
    image: Image8  # (H, W, 3) uint8 RGB
    boxes: NDArray[np.float32]  # (n, 5) people in it from left to right: x1, y1, x2, y2 in pixels, confidence
    chosen: int | None  # number of the person's box, from 0; None where the whole picture is taken
    is_certain: bool  # whether there was but one to choose from, or the user chose

    @property
    def crop(self) -> Image8:
        """The person."""
        return self.image if self.chosen is None else cut_out(self.image, self.boxes[self.chosen, :4].tolist())

    @property
    def note(self) -> str:
        """What was taken for granted; empty where nothing was."""
        if self.chosen is None:
            return f"query: no person is detected in {self.name}, so the whole picture is taken for the person"
        if self.is_certain:
            return ""
        return (
            f"query: {self.name} shows {_listed(self.boxes)}; the largest, number {self.chosen + 1}, is looked for; "
            "query_person=<number> chooses another"
        )


def read_queries(given: Sequence[str], detector: Detector, confidence: float, person: int | None) -> list[QueryPicture]:
    """Read the pictures of a person, and find the person in each.

    Args:
        given: Image files, folders or globs.
        detector: Finds people.
        confidence: Detections from here on count.
        person: Number of the person in each picture, from 1, counted from left to right; None: the largest.

    Raises:
        DataError: If there is no such picture, or it cannot be read.
        ConfigError: If a picture shows fewer people than `person` says.
    """
    frames: list[Frame] = []
    for each in given:
        try:
            source = open_source(each)
            if source.kind != "pictures":
                raise DataError(f"source: {each} is no picture; give one or several pictures of the person")
            frames += list(source)
        except DataError as error:
            raise DataError(str(error).replace("source:", "query:", 1)) from None
        if source.faults:
            raise DataError(f"query: {source.faults[0]}")
    found = [_detect(detector, frame.image) for frame in frames]
    people = [_distinct(rows[rows[:, 4] >= confidence]) for rows in found]
    return [_choose(frame, rows, person) for frame, rows in zip(frames, people, strict=True)]


def embed_queries(pictures: Sequence[QueryPicture], embedder: Embedder) -> NDArray[np.float32]:
    """The person's embedding, shape (D,), of unit norm: the mean over the pictures."""
    return mean_embedding(embedder.embed([np.ascontiguousarray(picture.crop) for picture in pictures]))


def _detect(detector: Detector, image: Image8) -> NDArray[np.float32]:
    """People in a picture, (n, 5) as of `Detector.detect`: at the border at which one is found most surely."""
    height, width = image.shape[:2]
    found = []
    for share in _BORDERS:
        down, across = round(share * height / 2), round(share * width / 2)
        padded = np.pad(image, ((down, down), (across, across), (0, 0)), constant_values=_GREY)
        rows = detector.detect([padded])[0] - np.array([across, down, across, down, 0], np.float32)
        rows[:, :4] = rows[:, :4].clip(0, [width, height, width, height])
        found.append(rows)
    return max(found, key=lambda rows: float(rows[:, 4].max(initial=0)))


def _distinct(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without what is hardly a person beside the surest one, and without parts of and second boxes on a surer one."""
    kept: list[NDArray[np.float32]] = []
    for row in rows[np.argsort(-rows[:, 4], kind="stable")]:
        corners = row[None, :4].astype(np.float64)
        others = np.stack([other[:4] for other in kept]).astype(np.float64) if kept else np.zeros((0, 4))
        inside = intersection_matrix(corners, others)[0] / max(float(box_areas(corners)[0]), 1e-9)
        if not kept or (row[4] >= _SURE * kept[0][4] and inside.max() < _PART):
            kept.append(row)
    return np.stack(kept) if kept else rows[:0]


def _choose(frame: Frame, rows: NDArray[np.float32], person: int | None) -> QueryPicture:
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if person is not None and person > len(rows):
        expected = f"{frame.name} shows {_listed(rows)}" if len(rows) else f"no person is detected in {frame.name}"
        raise ConfigError([Problem("query_person", expected, str(person))])
    if not len(rows):
        return QueryPicture(frame.name, frame.image, rows, None, False)
    largest = int(np.argmax((rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])))
    chosen = largest if person is None else person - 1
    return QueryPicture(frame.name, frame.image, rows, chosen, person is not None or len(rows) == 1)


def _listed(rows: NDArray[np.float32]) -> str:
    """`3 people, from left to right: 1 at x 12 to 80, ...`."""
    places = ", ".join(f"{number} at x {row[0]:.0f} to {row[2]:.0f}" for number, row in enumerate(rows, 1))
    return f"{len(rows)} {'person' if len(rows) == 1 else 'people'}, from left to right: {places}"
