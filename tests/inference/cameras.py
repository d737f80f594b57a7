"""A stand-in of cv2.VideoCapture that plays a camera."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inference.drawn import Pixels, picture


class Camera:
    """Gives pictures of the drawn film, and then what it is told to.

    Args:
        frames: How many there are.
        then: Called by the grab after the last; returns whether there is one more frame.
        start_s: What its clock says of the first frame; None: it has no clock.
        step_s: Seconds between two frames by its clock.
        broken: Numbers of frames that cannot be decoded.
        sizes: Height and width of the frames, in turn.
    """

    def __init__(
        self,
        frames: int,
        then: Callable[[], bool] = lambda: False,
        start_s: float | None = 5000.0,
        step_s: float = 0.04,
        broken: tuple[int, ...] = (),
        sizes: tuple[tuple[int, int], ...] = ((120, 160),),
    ) -> None:
        self.frames, self.then, self.broken, self.sizes = frames, then, broken, sizes
        self.start_s, self.step_s = start_s, step_s
        self.number = -1
        self.released = threading.Event()

    def isOpened(self) -> bool:  # noqa: N802, as OpenCV calls it
        return True

    def get(self, what: int) -> float:
        import cv2

        if what == cv2.CAP_PROP_FPS:
            return 25.0
        assert what == cv2.CAP_PROP_POS_MSEC
        return 0.0 if self.start_s is None else 1000 * (self.start_s + self.step_s * self.number)

    def grab(self) -> bool:
        self.number += 1
        return self.number < self.frames or self.then()

    def retrieve(self) -> tuple[bool, Pixels | None]:
        if self.number in self.broken:
            return False, None
        size = self.sizes[self.number % len(self.sizes)]
        return True, np.ascontiguousarray(picture(self.number, size)[:, :, ::-1])

    def release(self) -> None:
        self.released.set()


def put(monkeypatch: pytest.MonkeyPatch, camera: Any) -> Any:
    """Let OpenCV open `camera`, whatever it is asked for."""
    monkeypatch.setattr("cv2.VideoCapture", lambda *_: camera)
    return camera
