"""Films and models for the tests of inference: blocks of colour that walk, a detector that sees them, an embedder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
# RGB of the people; far enough apart for video codecs.
COLOURS = ((230, 40, 40), (40, 200, 40), (40, 40, 230))
FOURCC = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".webm": "VP80"}


def picture(number: int, size: tuple[int, int] = (120, 160)) -> Pixels:
    """Frame `number` of the film: person k is 24x48 pixels and walks; person 2 comes with frame 10."""
    height, width = size
    pixels = np.full((height, width, 3), 110, np.uint8)
    for person, colour in enumerate(COLOURS):
        if person == 2 and number < 10:
            continue
        left = (8 + 52 * person + number * (person + 1)) % (width - 24)
        top = 8 + 18 * person
        pixels[top : top + 48, left : left + 24] = colour
    return pixels


def film(path: Path, frames: int = 30, size: tuple[int, int] = (120, 160), fps: float = 25.0) -> Path:
    """Write a video by OpenCV in the codec of its suffix."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*FOURCC[path.suffix]), fps, size[::-1])
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.ascontiguousarray(picture(number, size)[:, :, ::-1]))
    writer.release()
    return path


class Sighted:
    """A detector that finds the blocks, the larger ones with more confidence; counts its calls."""

    assumed: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        self.batches.append(len(images))
        found = []
        for image in images:
            rows = []
            for colour in COLOURS:
                ys, xs = np.nonzero(np.abs(image.astype(int) - colour).sum(axis=2) < 90)
                if len(xs) > 40:
                    rows.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, min(0.99, len(xs) / 1500)])
            found.append(np.array(sorted(rows, key=lambda row: -row[4]), np.float32).reshape(-1, 5))
        return found


class Knowing:
    """An embedder that knows people by their colour."""

    assumed: tuple[str, ...] = ()

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        features = np.array([crop.reshape(-1, 3).mean(axis=0) - 100 for crop in crops], np.float32).reshape(-1, 3)
        unit: NDArray[np.float32] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
        return unit
