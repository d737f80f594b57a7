"""Frames in, sightings out: reading, detecting and embedding overlap in threads, a few frames at a time."""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from watchme.core.interfaces import Detector, Embedder
from watchme.inference.frames import Frame, FrameSource, Image8
from watchme.inference.sightings import Seen
from watchme.metrics.iou import iou_matrix

In = TypeVar("In")
Out = TypeVar("Out")
Rows = NDArray[np.float32]
# A batch of frames ends early at so many pixels, eight of 1920x1080, so that memory is bounded for every camera.
_PIXELS = 8 * 1920 * 1080
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Settings:
    """How a source is gone through."""

    confidence: float = 0.25  # detections from here on count
    iou: float = 1.0  # of two boxes in a frame that overlap by more, the less confident is left out
    stride: int = 1  # every how many frames one is looked at
    limit: int | None = None  # stop before this frame; None: never
    frame_batch: int = 8  # frames that are detected in together
    crop_batch: int = 64  # crops that are embedded together


def sightings_of(
    source: FrameSource, detector: Detector, embedder: Embedder | None, settings: Settings, start: int = 0
) -> Generator[list[tuple[Frame, Seen]], None, None]:
    """Find people in every frame, in the order of the source.

    While one batch is embedded, the next is detected in, and the one after it is read; no more wait than that, so that
    memory does not grow with the source. A caller that stops iterating, or closes the generator, stops the threads.

    Args:
        source: Where frames come from.
        detector: Finds people.
        embedder: Embeds their crops; None: nobody does.
        settings: Thresholds and batches.
        start: The first frame.

    Yields:
        Batches of frames, each frame with what was seen in it.
    """

    import torch

    threads = torch.get_num_threads()

    def detect(batch: list[Frame]) -> tuple[list[Frame], list[Rows]]:
        found = detector.detect([frame.image for frame in batch])
        return batch, [_distinct(rows[rows[:, 4] >= settings.confidence], settings.iou) for rows in found]

    def embed(detected: tuple[list[Frame], list[Rows]]) -> tuple[list[Frame], list[Rows], Sequence[Rows | None]]:
        # ultralytics sets the number of torch's threads meanwhile, which a thread that begins then would keep.
        torch.set_num_threads(threads)
        return *detected, _embed(embedder, *detected, settings.crop_batch)

    left = threading.Event()
    batches = _ahead(_as_it_is, _batches(source.frames(start, settings.stride), settings), left, _PATIENCE_S)
    with contextlib.closing(_ahead(embed, _ahead(detect, batches, left), left)) as embedded:
        try:
            for batch, found, embeddings in embedded:
                each = zip(batch, found, embeddings, strict=True)
                yield [(frame, _seen(frame, rows, features)) for frame, rows, features in each]
        except GeneratorExit:
            left.set()
            raise


def embeddings_of(
    source: FrameSource, embedder: Embedder, crop_batch: int = 64
) -> Generator[tuple[list[Frame], NDArray[np.float32]], None, None]:
    """Embed whole pictures, each the crop of one person: batches of frames, and (n, D) embeddings of unit norm."""
    found = _batches(source.frames(), Settings(frame_batch=crop_batch))
    with contextlib.closing(_ahead(_as_it_is, found, threading.Event())) as batches:
        for batch in batches:
            yield batch, embedder.embed([frame.image for frame in batch])


def cut_out(image: Image8, box: Sequence[float]) -> Image8:
    """The part of an image within a box, clipped to the image; at least one pixel."""
    return image[region(image, box)]


def region(image: Image8, box: Sequence[float], margin: float = 0.0) -> tuple[slice, slice]:
    """Rows and columns of a box within an image, at least one of each; with a margin, in shares of the box."""
    height, width = image.shape[:2]
    across, along = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    left, top = (min(max(round(low), 0), end - 1) for low, end in ((box[0] - across, width), (box[1] - along, height)))
    bottom, right = max(min(round(box[3] + along), height), top + 1), max(min(round(box[2] + across), width), left + 1)
    return slice(top, bottom), slice(left, right)


def _batches(frames: Iterator[Frame], settings: Settings) -> Generator[list[Frame], None, None]:
    batch: list[Frame] = []
    pixels = 0
    for frame in frames:
        if settings.limit is not None and frame.index >= settings.limit:
            break
        batch.append(frame)
        pixels += frame.image.shape[0] * frame.image.shape[1]
        if len(batch) >= settings.frame_batch or pixels >= _PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _distinct(rows: Rows, most: float) -> Rows:
    """Non-maximum suppression of (n, 5) boxes and confidences, the most confident first."""
    overlap = iou_matrix(rows[:, :4].astype(np.float64), rows[:, :4].astype(np.float64))
    kept: list[int] = []
    for row in range(len(rows)):
        if not (overlap[row, kept] > most).any():
            kept.append(row)
    return rows[kept]


def _seen(frame: Frame, rows: Rows, embeddings: Rows | None) -> Seen:
    size = frame.image.shape[0], frame.image.shape[1]
    return Seen(frame.index, frame.time_s, frame.name, size, rows[:, :4], rows[:, 4], embeddings)


def _embed(embedder: Embedder | None, batch: list[Frame], found: list[Rows], size: int) -> Sequence[Rows | None]:
    if embedder is None:
        return [None] * len(batch)
    crops = [
        cut_out(frame.image, box) for frame, rows in zip(batch, found, strict=True) for box in rows[:, :4].tolist()
    ]
    parts = [embedder.embed(crops[start : start + size]) for start in range(0, max(len(crops), 1), size)]
    return np.split(np.concatenate(parts), np.cumsum([len(rows) for rows in found])[:-1])


def _as_it_is(batch: list[Frame]) -> list[Frame]:
    return batch


class _Failed:
    """What ended a thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def _ahead(
    make: Callable[[In], Out], items: Generator[In, None, None], left: threading.Event, patience: float = math.inf
) -> Generator[Out, None, None]:
    """Make the next result in a thread while the caller works on the last, of which one more waits.

    The thread also runs `items`, and closes it at its end, so that closing the last of a chain ends them all.

    Args:
        make: Runs in the thread.
        items: What it gets.
        left: Of the whole chain; set once nobody wants its results any more.
        patience: Seconds after which a thread that does not end is left behind, as it waits for a camera.
    """
    waiting: queue.Queue[Any] = queue.Queue(1)
    stop = threading.Event()

    def work() -> None:
        last: object = _END
        try:
            for item in items:
                waiting.put(make(item))
                if stop.is_set():
                    break
        except BaseException as error:
            last = _Failed(error)
        finally:
            items.close()
            waiting.put(last)

    thread = threading.Thread(target=work, name="watchme-ahead", daemon=True)
    thread.start()
    try:
        while (item := _next(waiting, left)) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        stop.set()
        end = time.monotonic() + patience
        while thread.is_alive() and time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                waiting.get(timeout=0.05)


def _next(waiting: "queue.Queue[Any]", left: threading.Event) -> Any:
    """Wait for the next item, unless nobody wants it any more, as after Ctrl-C."""
    while not left.is_set():
        try:
            return waiting.get(timeout=0.2)
        except queue.Empty:
            continue
        except KeyboardInterrupt:
            left.set()
            raise
    return _END
