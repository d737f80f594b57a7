"""Chosen frames of a source once more: pictures by their path, frames of a video by seeking to them."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from watchme.core.errors import DataError
from watchme.inference.frames import Frame, FrameSource
from watchme.inference.pictures import PictureSource
from watchme.inference.video_reader import VideoSource

log = logging.getLogger(__name__)

_BEFORE = 30  # frames before the wanted one that are sought, as seeking is inexact in many formats
_NEAR_S = 4.0  # seconds that are read rather than sought
_SAME_S = 0.0015  # by which a frame's time may differ between two passes: the containers' unit, rounded


def frames_at(source: FrameSource, wanted: Mapping[int, float]) -> Iterator[Frame]:
    """Frames of a source that was gone through before, in ascending order; those that are gone are left out.

    Args:
        source: Pictures or a video. A live one gives none: what it showed is past.
        wanted: Index of a frame -> its time in seconds, NaN for pictures.
    """
    if isinstance(source, VideoSource):
        yield from _of_video(source, wanted)
    elif isinstance(source, PictureSource):
        try:
            yield from source.frames(only={index for index in wanted if source.paths[index].is_file()})
        except DataError as error:  # none of them can be read any more
            log.warning("%s", error)


def _of_video(source: VideoSource, wanted: Mapping[int, float]) -> Iterator[Frame]:
    """Seek to a little before each frame, and read on to its time; where that fails, read the video once."""
    import cv2

    order = sorted(wanted)
    capture = cv2.VideoCapture(str(source.path))
    done = 0
    try:
        for index in order:
            pixels = _at(capture, index, wanted[index])
            if pixels is None:
                break
            yield Frame(pixels, index, wanted[index], source.name_of(index))
            done += 1
    finally:
        capture.release()
    rest = set(order[done:])
    for frame in source.frames(min(rest)) if rest else ():
        if frame.index in rest:
            yield frame
        if frame.index >= order[-1]:
            break


def _at(capture: Any, index: int, seconds: float) -> Any:
    """The frame at a time, RGB; None where it is not met."""
    import cv2

    position = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    started = capture.get(cv2.CAP_PROP_POS_FRAMES) > 0
    if not (started and 0 < seconds - position < _NEAR_S):
        capture.set(cv2.CAP_PROP_POS_FRAMES, max(0, index - _BEFORE))
    while capture.grab():
        found = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if abs(found - seconds) <= _SAME_S:
            good, pixels = capture.retrieve()
            return np.ascontiguousarray(pixels[:, :, ::-1]) if good and pixels.ndim == 3 else None
        if found > seconds:
            return None
    return None
