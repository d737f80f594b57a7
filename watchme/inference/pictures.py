"""Image files as a source of frames, decoded in threads."""

import hashlib
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from watchme.core.errors import DataError
from watchme.data.images import read_image
from watchme.inference.frames import Frame, Image8, Kind

log = logging.getLogger(__name__)

_READERS = 2


class PictureSource:
    """Image files, decoded in threads, in their order. An unreadable one is left out, and named in `faults`.

    Args:
        given: As the user wrote it.
        paths: The files.
        anchor: The folder that names are below.
    """

    kind: Kind = "pictures"
    fps: float | None = None

    def __init__(self, given: str, paths: Sequence[Path], anchor: Path) -> None:
        self.given = given
        self.faults: list[str] = []
        self.paths = paths
        self.length: int | None = len(paths)
        self._anchor = anchor
        digest = hashlib.sha256()
        for path in paths:
            try:
                state = path.stat()
                mark = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
            except OSError:  # a link to nowhere, which is left out when it is read
                mark = f"{path}|absent"
            digest.update(f"{mark}\n".encode())
        self.fingerprint = digest.hexdigest()

    def __iter__(self) -> Iterator[Frame]:
        """All frames."""
        return self.frames()

    def frames(self, start: int = 0, stride: int = 1, only: Collection[int] | None = None) -> Iterator[Frame]:
        """See `FrameSource`."""
        every = range(-(-start // stride) * stride, len(self.paths), stride)
        numbers = (number for number in every if only is None or number in only)
        any_read, any_broken = start > 0, False
        with ThreadPoolExecutor(_READERS, thread_name_prefix="pictures") as pool:
            begun: list[tuple[int, Future[Image8 | str]]] = []
            try:
                while True:
                    begun += [(n, pool.submit(self._read, n)) for n in islice(numbers, _READERS + 1 - len(begun))]
                    if not begun:
                        break
                    number, reading = begun.pop(0)
                    found = reading.result()
                    if isinstance(found, str):
                        self._leave_out(found)
                        any_broken = True
                        continue
                    any_read = True
                    yield Frame(found, number, math.nan, self.name_of(number))
            finally:
                pool.shutdown(cancel_futures=True)
        if any_broken and not any_read:
            raise DataError(f"source: none of the {len(self.paths)} images of {self.given} can be read")

    def name_of(self, number: int) -> str:
        """The name of a picture: its path below the folder."""
        path = self.paths[number]
        return path.relative_to(self._anchor).as_posix() if path.is_relative_to(self._anchor) else path.as_posix()

    def _read(self, number: int) -> Image8 | str:
        try:
            return np.asarray(read_image(self.paths[number]))
        except DataError as error:
            return str(error)

    def _leave_out(self, fault: str) -> None:
        if len(self.paths) == 1:
            raise DataError(f"source: {fault}")
        if fault not in self.faults:
            log.warning("%s", fault)
            self.faults.append(fault)
