"""Sightings of people in a source, as columns: a store that grows chunk by chunk, and can be killed at any moment.

A folder holds either chunks (`sightings/chunk_000000.npz`, ...), each written whole or not at all, while the source is
gone through, or one file with all of them once it is: `embeddings.npz`, or `sightings.npz` without a re-ID model.
Its arrays:

    frame (N,) int64       index of the frame in the source       frame_index (F,) int64    every frame looked at,
    time (N,) float64      seconds; NaN for pictures              frame_time (F,) float64   those without people too
    box (N, 4) float32     x1, y1, x2, y2 in pixels               frame_name (F,) str
    score (N,) float32     the detector's confidence              frame_size (F, 2) int32   height, width
    embedding (N, D) float32, of unit norm; absent without a re-ID model
    track (N,) int64, person (N,) int64                           see multi_object_tracking.py; -1 before they are known
"""

import itertools
import time as clock
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import RunFolderError
from watchme.io.files import read_json, remove_temporaries, replace_json, replacing

FOLDER = "sightings"
EMBEDDINGS = "embeddings.npz"
WITHOUT_EMBEDDINGS = "sightings.npz"
_STATE = "state.json"
_OF_SIGHTINGS = ("frame", "time", "box", "score", "track", "person", "embedding")
_OF_FRAMES = ("frame_index", "frame_time", "frame_name", "frame_size")
# A chunk is written once it has so many frames or sightings, or is so old.
_FRAMES, _SIGHTINGS, _SECONDS = 512, 2048, 15.0
# Arrays above this stay on the disk until they are used.
_MAPPED_BYTES = 16 << 20
_ROWS = 1 << 14  # that are copied at once
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sightings:
    """All that was seen in a source; see the head of this file for shapes and types."""

    frame: NDArray[np.int64]
    time: NDArray[np.float64]
    box: NDArray[np.float32]
    score: NDArray[np.float32]
    track: NDArray[np.int64]
    person: NDArray[np.int64]
    embedding: NDArray[np.float32] | None
    frame_index: NDArray[np.int64]
    frame_time: NDArray[np.float64]
    frame_name: Array
    frame_size: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.frame)

    def name(self, sighting: int) -> str:
        """Name of the frame that a sighting is in."""
        return str(self.frame_name[int(np.searchsorted(self.frame_index, self.frame[sighting]))])


@dataclass(frozen=True, eq=False)
class Seen:
    """What one frame shows."""

    index: int  # of the frame in its source
    time_s: float  # seconds; NaN for pictures
    name: str  # of the frame
    size: tuple[int, int]  # height and width, pixels
    boxes: NDArray[np.float32]  # (n, 4) float32 x1, y1, x2, y2 in pixels
    scores: NDArray[np.float32]  # (n,) float32
    embeddings: NDArray[np.float32] | None  # (n, D) float32 of unit norm; None without a re-ID model


def rows_by_frame(found: Sightings) -> Iterator[tuple[int, slice]]:
    """Every frame that was looked at, by its place, and the rows of the people in it."""
    ends = np.searchsorted(found.frame, found.frame_index, side="right").tolist()
    yield from enumerate(itertools.starmap(slice, itertools.pairwise([0, *ends])))


class SightingsWriter:
    """Appends what is seen, frame by frame; goes on with what a killed process left in the folder.

    Args:
        folder: The run folder. Nothing is written before the first chunk.
        key: What the sightings depend on (source, weights, thresholds), name -> value.

    Raises:
        RunFolderError: If the folder holds sightings of something else.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self._chunks = folder / FOLDER
        self._key = {name: str(value) for name, value in key.items()}
        self._seen: list[Seen] = []
        self._began = clock.monotonic()
        state = read_json(self._chunks / _STATE)
        before = state.get("key", {})
        if before and before != self._key:
            other = sorted(name for name in before.keys() | self._key.keys() if before.get(name) != self._key.get(name))
            raise RunFolderError(
                f"{folder} holds sightings that were made with other {', '.join(other)}; they cannot be continued. "
                "Choose another folder: hydra.run.dir=<folder>"
            )
        self.complete = bool(state.get("complete"))
        self._parts = _parts(folder)
        self.frames, self.sightings, self.next_frame = 0, 0, 0
        for part in self._parts:
            with np.load(part) as arrays:
                index = arrays["frame_index"]
                self.frames += len(index)
                self.sightings += len(arrays["score"])
                self.next_frame = int(index[-1]) + 1 if len(index) else self.next_frame

    def append(self, batch: Sequence[Seen]) -> None:
        """Add frames whose indices are above those before.

        A chunk ends where a batch does, so that a run that goes on makes the batches that it would have made at once:
        the last bits of a network's results depend on them.
        """
        if not self._seen:
            self._began = clock.monotonic()
        self._seen += batch
        self.frames += len(batch)
        self.sightings += sum(len(seen.scores) for seen in batch)
        self.next_frame = batch[-1].index + 1 if batch else self.next_frame
        many = sum(len(each.scores) for each in self._seen) >= _SIGHTINGS
        if many or len(self._seen) >= _FRAMES or clock.monotonic() - self._began >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as one more chunk."""
        if not self._seen:
            return
        if not self._parts:
            self._chunks.mkdir(parents=True, exist_ok=True)
            remove_temporaries(self._chunks)
            replace_json(self._chunks / _STATE, {"key": self._key})
        path = self._chunks / f"chunk_{len(self._parts):06d}.npz"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **_columns(self._seen))  # type: ignore[arg-type]  # numpy's stub
        self._parts.append(path)
        self._seen = []

    def finish(self) -> None:
        """Mark the source as gone through to its end."""
        self.flush()
        self._chunks.mkdir(parents=True, exist_ok=True)
        replace_json(self._chunks / _STATE, {"key": self._key, "complete": True})
        self.complete = True

    def chunks(self) -> Iterator[Sightings]:
        """What is written, chunk by chunk."""
        for part in self._parts:
            yield _read(part, mapped=False)


def load(folder: Path) -> Sightings:
    """The sightings in a run folder, of a run that was killed as far as it came.

    Large arrays of a finished run are memory-mapped.

    Raises:
        RunFolderError: If there are none.
    """
    parts = _parts(folder)
    if not parts:
        raise RunFolderError(f"{folder} holds no sightings: neither {EMBEDDINGS} nor {FOLDER}/chunk_*.npz")
    if len(parts) == 1:
        return _read(parts[0], mapped=True)
    read = [_read(part, mapped=False) for part in parts]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in read])
        for name in (*_OF_SIGHTINGS, *_OF_FRAMES)
        if getattr(read[0], name) is not None
    }
    return Sightings(**{"embedding": None, **joined})


def merge(folder: Path, track: NDArray[np.int64], person: NDArray[np.int64]) -> Path:
    """Make one file of all chunks, or the file once more with other tracks, so that memory holds but a part.

    Args:
        folder: The run folder.
        track: (N,) of all sightings.
        person: (N,) of all sightings.

    Returns:
        The file.
    """
    parts = _parts(folder)
    given: dict[str, Array] = {"track": track, "person": person}
    with np.load(parts[0]) as first:
        names = [name for name in (*_OF_SIGHTINGS, *_OF_FRAMES) if name in first]
    target = folder / (EMBEDDINGS if "embedding" in names else WITHOUT_EMBEDDINGS)
    frames = sum(_rows(part, "frame_index") for part in parts)
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            blocks = iter([given[name]]) if name in given else _column(parts, name)
            _write_column(archive, name, blocks, frames if name in _OF_FRAMES else len(track))
    for part in parts:
        if part != target:
            part.unlink()
    return target


def _parts(folder: Path) -> list[Path]:
    """The files that hold the sightings, in their order: the whole, or the chunks."""
    for name in (EMBEDDINGS, WITHOUT_EMBEDDINGS):
        if (folder / name).is_file() and zipfile.is_zipfile(folder / name):
            return [folder / name]
    return sorted((folder / FOLDER).glob("chunk_*.npz"))


def _columns(seen: Sequence[Seen]) -> dict[str, Array]:
    counts = [len(each.scores) for each in seen]
    columns: dict[str, Array] = {
        "frame": np.repeat(np.array([each.index for each in seen], np.int64), counts),
        "time": np.repeat(np.array([each.time_s for each in seen], np.float64), counts),
        "box": np.concatenate([each.boxes.reshape(-1, 4) for each in seen]).astype(np.float32),
        "score": np.concatenate([each.scores for each in seen]).astype(np.float32),
        "track": np.full(sum(counts), -1, np.int64),
        "person": np.full(sum(counts), -1, np.int64),
        "frame_index": np.array([each.index for each in seen], np.int64),
        "frame_time": np.array([each.time_s for each in seen], np.float64),
        "frame_name": np.array([each.name for each in seen]),
        "frame_size": np.array([each.size for each in seen], np.int32).reshape(-1, 2),
    }
    embeddings = [each.embeddings for each in seen if each.embeddings is not None]
    if embeddings:
        columns["embedding"] = np.concatenate(embeddings).astype(np.float32)
    return columns


def _rows(part: Path, name: str) -> int:
    with np.load(part) as arrays:
        return len(arrays[name])


def _column(parts: Sequence[Path], name: str) -> Iterator[Array]:
    def blocks() -> Iterator[Array]:
        for part in parts:
            array = _mapped(part, name)
            assert array is not None
            for start in range(0, max(len(array), 1), _ROWS):
                yield array[start : start + _ROWS]

    # The longest name decides the type of all.
    return iter([np.concatenate(list(blocks()))]) if name == "frame_name" else blocks()


def _write_column(archive: zipfile.ZipFile, name: str, blocks: Iterator[Array], rows: int) -> None:
    """Write an array that comes in blocks, of `rows` rows together, as `<name>.npy`."""
    block = next(blocks)
    shape = (rows, *block.shape[1:])
    head = {"descr": np.lib.format.dtype_to_descr(block.dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, head)
        for each in itertools.chain([block], blocks):
            file.write(np.ascontiguousarray(each).tobytes())


def _read(path: Path, *, mapped: bool) -> Sightings:
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files if not (mapped and name == "embedding")}
    if mapped and "embedding" not in found:
        found["embedding"] = _mapped(path, "embedding")
    return Sightings(**{"embedding": None, **found})


def _mapped(path: Path, name: str) -> Array | None:
    """An array of an uncompressed .npz file, memory-mapped where it is large; None where there is none."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size < _MAPPED_BYTES:
            with archive.open(info) as file:
                loaded: Array = np.lib.format.read_array(file)
            return loaded
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # lengths of name and extra field, in the zip format's local header
        lengths = file.read(4)
        file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
        major, _ = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
