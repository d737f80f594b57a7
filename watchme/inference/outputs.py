"""What was seen in a source, written as predictions.jsonl, YOLO labels, COCO json and parquet, frame by frame."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from watchme.inference.sightings import Seen, Sightings, rows_by_frame
from watchme.io.files import replace_text, replacing
from watchme.io.image_files import is_image

JSONL = "predictions.jsonl"
COCO = "predictions.json"
LABELS = "labels"
PARQUET = "embeddings.parquet"
_ROWS = 16384  # of a parquet file's row group


@dataclass(frozen=True, eq=False)
class FramePeople:
    """The people in one frame; see sightings.py for shapes."""

    number: int  # place of the frame among those looked at
    index: int  # of the frame in its source
    time_s: float  # seconds; NaN for pictures
    name: str  # of the frame
    height: int  # pixels
    width: int  # pixels
    rows: slice  # which sightings
    box: NDArray[np.float32]  # (n, 4) float32
    score: NDArray[np.float32]  # (n,) float32
    track: NDArray[np.int64]  # (n,) int64
    person: NDArray[np.int64]  # (n,) int64

    def people(self) -> Iterator[dict[str, Any]]:
        """Each person as predictions.jsonl has it."""
        for box, score, track, person in zip(
            self.box.tolist(), self.score.tolist(), self.track.tolist(), self.person.tolist(), strict=True
        ):
            known = {name: value for name, value in (("track", track), ("person", person)) if value >= 0}
            yield {"box": [round(value, 2) for value in box], "score": round(score, 4), **known}


def by_frame(parts: Iterable[Sightings]) -> Iterator[FramePeople]:
    """Every frame that was looked at, with the people in it."""
    number = 0
    for part in parts:
        for place, own in rows_by_frame(part):
            height, width = part.frame_size[place].tolist()
            yield FramePeople(
                number,
                int(part.frame_index[place]),
                float(part.frame_time[place]),
                str(part.frame_name[place]),
                height,
                width,
                own,
                part.box[own],
                part.score[own],
                part.track[own],
                part.person[own],
            )
            number += 1


def of_batch(batch: Iterable[Seen]) -> Iterator[FramePeople]:
    """Frames that have just been looked at; who is who is not known yet."""
    for seen in batch:
        nobody = np.full(len(seen.scores), -1, np.int64)
        own = slice(0, len(seen.scores))
        size = seen.size
        yield FramePeople(0, seen.index, seen.time_s, seen.name, *size, own, seen.boxes, seen.scores, nobody, nobody)


def write_jsonl(path: Path, parts: Iterable[Sightings]) -> None:
    """One line a frame, those without people too."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        write_lines(file, by_frame(parts))


def write_lines(file: TextIO, frames: Iterable[FramePeople]) -> None:
    """Write lines of predictions.jsonl."""
    for frame in frames:
        seconds = None if math.isnan(frame.time_s) else round(frame.time_s, 3)
        head = {"frame": frame.index, "name": frame.name, "time_s": seconds}
        size = {"width": frame.width, "height": frame.height}
        file.write(json.dumps({**head, **size, "people": list(frame.people())}) + "\n")


def write_yolo(folder: Path, found: Sightings) -> None:
    """`labels/<frame>.txt` as `yolo predict save_txt save_conf` writes them: 0 cx cy w h confidence, in shares of the
    frame, and the person's number where it is known; frames without people have no file."""
    stems = file_stems(found)
    for frame in by_frame([found]):
        lines = []
        for box, score, person in zip(frame.box, frame.score.tolist(), frame.person.tolist(), strict=True):
            x1, y1, x2, y2 = (box / np.array([frame.width, frame.height] * 2)).tolist()
            shares = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
            number = f" {person}" if person >= 0 else ""
            lines.append(f"0 {' '.join(f'{share:.6f}' for share in shares)} {score:.4f}{number}\n")
        if lines:
            replace_text(folder / LABELS / f"{stems[frame.number]}.txt", "".join(lines))


def write_coco(folder: Path, found: Sightings) -> None:
    """predictions.json: images, annotations with scores, one category, in COCO's format."""
    with replacing(folder / COCO) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"categories": [{"id": 1, "name": "person"}],\n"images": [')
        for frame in by_frame([found]):
            image = {"id": frame.number + 1, "file_name": frame.name, "width": frame.width, "height": frame.height}
            file.write(("," if frame.number else "") + "\n" + json.dumps(image))
        file.write('],\n"annotations": [')
        count = 0
        for frame in by_frame([found]):
            for person in frame.people():
                x1, y1, x2, y2 = person.pop("box")
                width, height = round(x2 - x1, 2), round(y2 - y1, 2)
                shape = {"bbox": [x1, y1, width, height], "area": round(width * height, 2), "iscrowd": 0}
                head = {"id": count + 1, "image_id": frame.number + 1, "category_id": 1}
                file.write(("," if count else "") + "\n" + json.dumps({**head, **shape, **person}))
                count += 1
        file.write("]}\n")


def write_parquet(path: Path, blocks: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Write columns that come in blocks; those of two dimensions become lists of one length. Needs pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(values: NDArray[Any]) -> Any:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    with replacing(path) as temporary, contextlib.ExitStack() as stack:
        writer = None
        for block in blocks:
            table = pa.table({name: column(values) for name, values in block.items()})
            writer = writer or stack.enter_context(pq.ParquetWriter(temporary, table.schema))
            writer.write_table(table)


def sighting_rows(found: Sightings) -> Iterator[dict[str, NDArray[Any]]]:
    """Blocks of columns for `write_parquet`, a row a sighting."""
    place = np.searchsorted(found.frame_index, found.frame)
    for start in range(0, max(len(found), 1), _ROWS):
        own = slice(start, start + _ROWS)
        columns = {"frame": found.frame[own], "time": found.time[own], "name": found.frame_name[place[own]]}
        columns |= {name: found.box[own, side] for side, name in enumerate(("x1", "y1", "x2", "y2"))}
        columns |= {"score": found.score[own], "track": found.track[own], "person": found.person[own]}
        yield columns if found.embedding is None else {**columns, "embedding": found.embedding[own]}


def file_stems(found: Sightings) -> list[str]:
    """A path below a folder for each frame, without suffix: its name's, or all of it where two would have the same."""
    names = [_inside(str(name)) for name in found.frame_name]
    stems = [str(name.with_suffix("") if is_image(Path(name)) else name) for name in names]
    counts = Counter(stems)
    return [stem if counts[stem] == 1 else str(name) for stem, name in zip(stems, names, strict=True)]


def _inside(name: str) -> PurePosixPath:
    """A frame's name as a path below a folder, also where a list names files elsewhere."""
    return PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
