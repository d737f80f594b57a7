"""A video, a camera or a stream as a source of frames, by OpenCV in its build's codecs."""

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
from watchme.inference.live import is_live

log = logging.getLogger(__name__)

# ffmpeg writes to the terminal whatever it minds about a file; our own errors say what matters.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})


class VideoSource:
    """A video file, a camera or a stream.

    Args:
        given: A path, the number of a camera, or an address.

    Raises:
        DataError: If OpenCV cannot open it, or reads no frame.
    """

    def __init__(self, given: str) -> None:
        import cv2

        self.given = given
        self.faults: list[str] = []
        path = Path(given).expanduser()
        live = is_live(given)
        self.kind: Kind = "live" if live else "video"
        self._where: str | int = int(given) if given.isdigit() and live else given if live else str(path)
        self._stem = f"camera{given}" if given.isdigit() else "stream" if live else path.stem
        self._first: Any = None
        capture = self._open()
        self.fps: float | None = _sane(capture.get(cv2.CAP_PROP_FPS))
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.length: int | None = int(announced) if not live and 0 < announced < 1e9 else None
        self.fingerprint = ""
        if live:
            self._first = capture  # some cameras cannot be opened twice
        else:
            readable = capture.grab()
            capture.release()
            if not readable:
                raise DataError(f"source: {given} holds no frame that OpenCV can decode; convert it by ffmpeg")
            state = path.stat()
            self.fingerprint = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"

    def __iter__(self) -> Iterator[Frame]:
        """All frames."""
        return self.frames()

    def frames(self, start: int = 0, stride: int = 1, only: Collection[int] | None = None) -> Iterator[Frame]:
        """See `FrameSource`. A video is run through from its beginning, as seeking is inexact in many formats."""
        import cv2

        capture, self._first = self._first or self._open(), None
        index, last = 0, -math.inf
        end = math.inf if only is None else max(only, default=-1)
        try:
            while index <= end and capture.grab():
                time = self._time(capture.get(cv2.CAP_PROP_POS_MSEC), index, last)
                last = time
                if index >= start and index % stride == 0 and (only is None or index in only):
                    good, pixels = capture.retrieve()
                    if good and pixels is not None:
                        yield Frame(_as_rgb(pixels), index, time, f"{self._stem}_{index:06d}")
                    else:
                        self._fault(f"frame {index} of {self.given} cannot be decoded")
                index += 1
        finally:
            capture.release()
        if index <= end:
            self._check_end(index)

    def _open(self) -> Any:
        import cv2

        if isinstance(self._where, str) and self.kind == "video" and Path(self._where).stat().st_size == 0:
            raise DataError(f"source: {self.given} is empty")
        with _quiet_opencv():
            capture = cv2.VideoCapture(self._where)
        if not capture.isOpened():
            capture.release()
            what = {"video": "video", "live": "camera or stream"}[self.kind]
            raise DataError(
                f"source: OpenCV cannot open the {what} {self.given}; is it reachable, whole, and of a codec that it "
                "has? ffmpeg converts others: ffmpeg -i <in> -c:v libx264 out.mp4"
            )
        return capture

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
            self._fault(f"{self.given} ends after {count} frames, {self.length} are announced: it may be cut off")

    def _fault(self, text: str) -> None:
        if text not in self.faults:
            log.warning("%s", text)
            self.faults.append(text)


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


def _as_rgb(pixels: Any) -> Image8:
    import cv2

    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _sane(fps: float) -> float | None:
    return float(fps) if math.isfinite(fps) and 0 < fps < 1000 else None
