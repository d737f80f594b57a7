"""A video as a source of frames, by OpenCV in its build's codecs."""

import contextlib
import logging
import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from watchme.core.errors import DataError
from watchme.inference.frames import Frame, Image8, Kind

log = logging.getLogger(__name__)

# ffmpeg writes to the terminal whatever it minds about a file; our own errors say what matters.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})

# Broken frames in a row after which a video has ended.
_MOST_BROKEN = 500


class VideoSource:
    """A video file.

    Args:
        given: Its path.

    Raises:
        DataError: If OpenCV cannot open it, or reads no frame.
    """

    kind: Kind = "video"

    def __init__(self, given: str) -> None:
        import cv2

        self.given = given
        self.faults: list[str] = []
        self.path = Path(given).expanduser()
        state = self.path.stat()
        if state.st_size == 0:
            raise DataError(f"source: {given} is empty")
        capture = self._open()
        self.fps: float | None = sane_fps(capture.get(cv2.CAP_PROP_FPS))
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.length: int | None = int(announced) if 0 < announced < 1e9 else None
        readable = capture.grab()
        capture.release()
        if not readable:
            raise DataError(f"source: {given} holds no frame that OpenCV can decode; convert it by ffmpeg")
        self.fingerprint = f"{self.path.resolve()}|{state.st_size}|{state.st_mtime_ns}"

    def __iter__(self) -> Iterator[Frame]:
        """All frames."""
        return self.frames()

    def frames(self, start: int = 0, stride: int = 1, only: Collection[int] | None = None) -> Iterator[Frame]:
        """See `FrameSource`. A video is run through from its beginning, as seeking is inexact in many formats."""
        import cv2

        capture = self._open()
        index, last = 0, -math.inf
        broken: list[int] = []
        end = math.inf if only is None else max(only, default=-1)
        try:
            while index <= end and (missing := self._next(capture, index)) is not None:
                broken += range(index, index + missing)
                index += missing
                last = time = self._time(capture.get(cv2.CAP_PROP_POS_MSEC), index, last)
                if index >= start and index % stride == 0 and (only is None or index in only):
                    good, pixels = capture.retrieve()
                    if good and pixels is not None:
                        yield Frame(as_rgb(pixels), index, time, self.name_of(index))
                    else:
                        broken.append(index)
                index += 1
        finally:
            capture.release()
        if broken:
            some = f"frame {broken[0]}" if len(broken) == 1 else f"{len(broken)} frames, the first of them {broken[0]},"
            self._fault(f"{some} of {self.given} cannot be decoded, and left out")
        if index <= end:
            self._check_end(index)

    def _next(self, capture: Any, index: int) -> int | None:
        """Go to the next frame that can be read: how many are left out before it; None at the end."""
        for missing in range(_MOST_BROKEN):
            if capture.grab():
                return missing
            if self.length is None or index + missing + 1 >= self.length:
                break
        return None

    def name_of(self, index: int) -> str:
        """The name of a frame."""
        return f"{self.path.stem}_{index:06d}"

    def _open(self) -> Any:
        return open_capture(str(self.path), f"video {self.given}")

    def _time(self, milliseconds: float, index: int, last: float) -> float:
        """Seconds of a frame: as the container says; by frames a second where it says nothing that can be."""
        seconds = milliseconds / 1000
        if math.isfinite(seconds) and seconds >= 0 and seconds > last and (index == 0 or seconds > 0):
            return seconds
        return max(index / (self.fps or 25.0), last)

    def _check_end(self, count: int) -> None:
        if count == 0:
            raise DataError(f"source: {self.given} gives no frame")
        # Containers announce a few frames more than they hold; a file that was cut off lacks many.
        if self.length is not None and count < 0.95 * self.length:
            self._fault(f"{self.given} gives {count} frames, {self.length} are announced: it may be cut off or damaged")

    def _fault(self, text: str) -> None:
        if text not in self.faults:
            log.warning("%s", text)
            self.faults.append(text)


def open_capture(where: str | int, named: str) -> Any:
    """OpenCV's reader of a file, a camera or a stream.

    Raises:
        DataError: If it cannot be opened; `named` is what the message calls it.
    """
    import cv2

    with _quiet_opencv():
        capture = cv2.VideoCapture(where)
    if not capture.isOpened():
        capture.release()
        raise DataError(
            f"source: OpenCV cannot open the {named}; is it reachable, whole, and of a codec that it has? ffmpeg "
            "converts others: ffmpeg -i <in> -c:v libx264 out.mp4"
        )
    return capture


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Mute OpenCV's own lines about files and cameras."""
    from cv2.utils import logging as cv2_logging

    before = cv2_logging.getLogLevel()
    cv2_logging.setLogLevel(cv2_logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2_logging.setLogLevel(before)


def as_rgb(pixels: Any) -> Image8:
    """OpenCV's BGR or grey pixels as RGB."""
    import cv2

    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def sane_fps(fps: float) -> float | None:
    """Frames a second as a container announces them; None for what cannot be."""
    return float(fps) if math.isfinite(fps) and 0 < fps < 1000 else None
