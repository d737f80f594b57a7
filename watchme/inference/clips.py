"""Appearances cut out of a video, the person marked, the others blurred if asked for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from watchme.inference.drawing import VideoFile
from watchme.inference.frames import FrameSource, Image8
from watchme.inference.frames_at import frames_at
from watchme.inference.match_pictures import Boxes, blur_others, mark


def write_clip(
    path: Path,
    source: FrameSource,
    frames: Mapping[int, float],
    boxes: Mapping[int, Sequence[float]],
    others: Callable[[Image8], Boxes] | None,
    fps: float,
) -> bool:
    """Write a part of a video.

    Args:
        path: A .webm file, which browsers play, or .mp4.
        source: The video.
        frames: Index -> seconds of the frames of the clip.
        boxes: Index -> box of the person in pixels, in the frames where they match.
        others: Finds everybody in an image, to be blurred; None: nobody is.
        fps: Frames a second of the clip.

    Returns:
        Whether there was any frame to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with VideoFile(path, fps) as video:
        for frame in frames_at(source, frames):
            box = boxes.get(frame.index)
            image = frame.image if others is None else blur_others(frame.image, others(frame.image), box)
            video.write(image if box is None else np.asarray(mark(image, box)))
            count += 1
    return count > 0
