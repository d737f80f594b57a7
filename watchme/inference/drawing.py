"""Boxes drawn into frames by OpenCV, and drawn frames written as pictures or as a video."""

import colorsys
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import DataError
from watchme.inference.frames import Image8

# By OpenCV's wheels, without an H.264 encoder; browsers play WebM, and not this MP4.
_CODECS = {"mp4": "mp4v", "webm": "VP80"}
_PLAIN = (18, 128, 92)
_QUALITY = 90


def colour_of(person: int) -> tuple[int, int, int]:
    """RGB of a person: hues a golden angle apart, so that those of neighbours differ; one colour for nobody."""
    if person < 0:
        return _PLAIN
    red, green, blue = colorsys.hsv_to_rgb((person * 0.618034) % 1.0, 0.75, 0.78)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_people(
    image: Image8, boxes: NDArray[np.float32], scores: NDArray[np.float32], persons: NDArray[np.int64]
) -> Image8:
    """A copy of an image with a box for each person, and its number or else its confidence.

    Args:
        image: (H, W, 3) RGB.
        boxes: (n, 4) x1, y1, x2, y2 in pixels.
        scores: (n,) confidences.
        persons: (n,) numbers; -1 where it is not known who is who.
    """
    import cv2

    drawn = np.ascontiguousarray(image).copy()
    side = max(drawn.shape[:2])
    thick = max(1, round(side / 400))
    scale = max(0.35, side / 1500)
    for box, person in zip(boxes, persons, strict=True):
        left, top, right, bottom = (round(float(value)) for value in box)
        cv2.rectangle(drawn, (left, top), (max(left, right - 1), max(top, bottom - 1)), colour_of(int(person)), thick)
    # Labels after all boxes, which would cross them out.
    for box, score, person in zip(boxes, scores, persons, strict=True):
        colour = colour_of(int(person))
        text = f"{score:.2f}" if person < 0 else f"{person}"
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        wide, high = width + 4, height + below + 2
        left, top = label_place(box.tolist(), (wide, high), (drawn.shape[1], drawn.shape[0]))
        cv2.rectangle(drawn, (left, top), (left + wide, top + high), colour, -1)
        place = (left + 2, top + high - below)
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _ink(colour), thick, cv2.LINE_AA)
    return drawn


def label_place(box: Sequence[float], label: tuple[int, int], picture: tuple[int, int]) -> tuple[int, int]:
    """Left and top of a label: above its box, else below, so that it hides no face; else within; never outside.

    Args:
        box: x1, y1, x2, y2 in pixels.
        label: Width and height.
        picture: Width and height.
    """
    left, top, _, bottom = (round(value) for value in box)
    wide, high = label
    place = top - high if top >= high else bottom if bottom + high <= picture[1] else max(0, top)
    return max(0, min(left, picture[0] - wide)), max(0, min(place, picture[1] - high))


def _ink(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever contrasts more with a colour by WCAG's relative luminance."""
    red, green, blue = ((part / 255) ** 2.2 for part in colour)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else (255, 255, 255)


def write_jpeg(path: Path, image: Image8) -> None:
    """Write a picture atomically; its folder is made."""
    from PIL import Image

    from watchme.io.files import replacing

    with replacing(path) as temporary, temporary.open("wb") as file:
        Image.fromarray(image).save(file, "JPEG", quality=_QUALITY)


class VideoFile:
    """A video that is written frame by frame, and is there once it is whole.

    Args:
        path: Its suffix names the format: .mp4 or .webm.
        fps: Frames a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")  # OpenCV goes by the suffix
        self._fps = fps
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, image: Image8) -> None:
        """Add a frame; one of another size than the first is scaled.

        Raises:
            DataError: If OpenCV cannot write the format.
        """
        import cv2

        if self._writer is None:
            # Codecs take even sizes only.
            self._size = (image.shape[1] // 2 * 2 or 2, image.shape[0] // 2 * 2 or 2)
            code = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix[1:]])
            self._writer = cv2.VideoWriter(str(self._temporary), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise DataError(
                    f"predict.video: this OpenCV cannot write {self._path.suffix[1:]}; choose another format"
                )
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if bgr.shape[1::-1] != self._size:
            bgr = cv2.resize(bgr, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(bgr)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._temporary.replace(self._path)
            self._writer = None

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._writer.release()
            with contextlib.suppress(OSError):
                self._temporary.unlink()
