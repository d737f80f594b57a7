"""A frame, and what all sources of frames have in common."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Kind = Literal["pictures", "video", "live"]
Image8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source."""

    image: Image8  # (H, W, 3) uint8 RGB, the right way up
    index: int  # its number in the source, from 0; unreadable and skipped ones count
    time_s: float  # seconds from the beginning of a video or a stream; NaN for pictures
    name: str  # the picture's path below its folder, or `<video>_<index>`


class FrameSource(Protocol):
    """What `open_source` returns."""

    given: str  # as the user wrote it
    kind: Kind  # whether it is pictures, a video, or live: a camera or a stream, which comes but once and may not end
    length: int | None  # how many frames there are, as far as it is known; a video may announce a few more than it has
    fps: float | None  # frames a second of a video; None where there is no such thing
    fingerprint: str  # text that differs when the source does; empty for a live one
    faults: list[str]  # what could not be read so far, a sentence each

    def frames(self, start: int = 0, stride: int = 1, only: Collection[int] | None = None) -> Iterator[Frame]:
        """Some of the frames.

        Args:
            start: The first.
            stride: Only those whose number is a multiple of it.
            only: Only those with these numbers; the others are not decoded.

        Raises:
            DataError: If none can be read.
        """
        ...

    def __iter__(self) -> Iterator[Frame]:
        """All frames."""
        ...
