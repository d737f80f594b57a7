"""A camera or a stream as a source of frames, which comes but once, may not end, and may fall silent."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

from watchme.core.errors import DataError
from watchme.inference.frames import Frame, Kind
from watchme.inference.video_reader import as_rgb, open_capture, sane_fps

log = logging.getLogger(__name__)

# Without a frame for so long a source has ended; OpenCV's own limits, where a backend has one, are 10 and 30 s.
_PATIENCE_S = 40.0


class LiveSource:
    """A camera or a stream. It is opened once, as some cameras cannot be opened twice.

    Args:
        given: The number of a camera, or an address.

    Raises:
        DataError: If OpenCV cannot open it.
    """

    kind: Kind = "live"
    length: int | None = None
    fingerprint = ""

    def __init__(self, given: str) -> None:
        import cv2

        self.given = given
        self.faults: list[str] = []
        self._stem = f"camera{given}" if given.isdigit() else "stream"
        self._capture = open_capture(int(given) if given.isdigit() else given, f"camera or stream {given}")
        self.fps: float | None = sane_fps(self._capture.get(cv2.CAP_PROP_FPS))

    def __iter__(self) -> Iterator[Frame]:
        """All frames."""
        return self.frames()

    def frames(self, start: int = 0, stride: int = 1, only: Collection[int] | None = None) -> Iterator[Frame]:
        """See `FrameSource`. Times count from the first frame, by the source's clock or, if it has none, by ours."""
        reader, clock = _Reader(self._capture, stride), _Clock()
        count, broken, silent = 0, 0, ""
        try:
            while (found := reader.frames.get(timeout=_PATIENCE_S)) is not None:
                index, milliseconds, pixels = found
                count, seconds = count + 1, clock.seconds(milliseconds / 1000)
                if pixels is None:
                    broken += 1
                elif index >= start and (only is None or index in only):
                    yield Frame(as_rgb(pixels), index, seconds, f"{self._stem}_{index:06d}")
        except queue.Empty:
            silent = f": nothing comes for {_PATIENCE_S:.0f} s"
        finally:
            reader.stop()
        if broken == count:
            raise DataError(f"source: {self.given} gives no frame{silent}")
        if broken:
            self._fault(f"{broken} frames of {self.given} cannot be decoded and are left out")
        self._fault(f"{self.given} has ended after {count} frames{silent}")

    def _fault(self, text: str) -> None:
        log.warning("%s", text)
        self.faults.append(text)


class _Clock:
    """Seconds since the first frame."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first: float | None = None
        self._last = 0.0

    def seconds(self, reported: float) -> float:
        """Of a frame, by the time that the source gives, which may be 0 for all frames, or count from anywhere."""
        if self._first is None:
            self._first, self._began = reported, time.monotonic()
            return 0.0
        seconds = reported - self._first
        if not self._last < seconds:
            seconds = max(self._last, time.monotonic() - self._began)
        self._last = seconds
        return seconds


class _Reader(threading.Thread):
    """Reads in a thread of its own, which is left behind where a camera does not answer any more.

    Attributes:
        frames: Index, milliseconds and BGR pixels of each frame, None where they are broken; None at the end.
    """

    def __init__(self, capture: Any, stride: int) -> None:
        super().__init__(name="watchme-camera", daemon=True)
        self._capture = capture
        self._stride = stride
        self.frames: queue.Queue[tuple[int, float, Any] | None] = queue.Queue(1)
        self._stopped = threading.Event()
        self.start()

    def run(self) -> None:
        import cv2

        index = 0
        try:
            while not self._stopped.is_set() and self._capture.grab():
                if index % self._stride == 0:
                    milliseconds = self._capture.get(cv2.CAP_PROP_POS_MSEC)
                    good, pixels = self._capture.retrieve()
                    self._put((index, milliseconds, pixels if good else None))
                index += 1
        finally:
            self._capture.release()
            self._put(None)

    def stop(self) -> None:
        """Let the thread end, as soon as the camera lets it."""
        self._stopped.set()

    def _put(self, item: tuple[int, float, Any] | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.frames.put(item, timeout=0.1)
                return
