"""Sequences in the format of MOT16, MOT17 and MOT20: numbered frames, and gt/gt.txt with a track for each person.

    frame, track, left, top, width, height, flag, class, visibility

Frames, tracks and pixels count from 1 (motchallenge.net/instructions); a flag of 0 means: ignored in evaluation.
Classes: 1 pedestrian, 2 person on a vehicle, 7 static person, 8 distractor, 12 reflection, 13 crowd; others are no
people (Milan et al., 2016; Dendorfer et al., 2020).
"""

import configparser
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchme.core.errors import DataError
from watchme.data.prepare import options as sources
from watchme.data.prepare.label_lines import Box, Size, box_of
from watchme.data.prepare.options import IMAGE_SUFFIXES, Source

PEDESTRIAN = 1
CROWD = 13
PEOPLE = {1: "pedestrian", 2: "person on a vehicle", 7: "static person"}
# MOT17 has each sequence three times, once for each detector; MOT16 has the same videos under its own name.
_COPY = re.compile(r"^MOT(?P<year>16|17)-(?P<number>\d+)(?:-(?:DPM|FRCNN|SDP))?$")


@dataclass(frozen=True)
class Row:
    """One line of gt.txt.

    Attributes:
        frame: From 1.
        track: Identity within the sequence.
        box: In pixels, from 0; may reach out of the image.
        ignored: Whether a pedestrian is flagged as not to be considered.
        kind: Class.
        visibility: Share of the box that is seen, 0 to 1.
    """

    frame: int
    track: int
    box: Box
    ignored: bool
    kind: int
    visibility: float


@dataclass(frozen=True)
class Clip:
    """A sequence: one video of one camera.

    Attributes:
        name: Its own, without the detector's: MOT17-02.
        folder: Where it lies.
        frames: Number -> image.
        size: What seqinfo.ini says the frames measure.
    """

    name: str
    folder: Path
    frames: dict[int, Path]
    size: Size | None

    @property
    def truth(self) -> Path:
        """Its gt.txt."""
        return self.folder / "gt" / "gt.txt"


def find_clips(folders: Sequence[Path], source: Source) -> list[Clip]:
    """All sequences below some folders, each video once, in the order of their names.

    Raises:
        DataError: If there is none, or two have one name.
    """
    found: dict[str, tuple[str, Path]] = {}
    copies = 0
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"no such folder: {folder}")
        truths = sorted(folder.rglob("gt/gt.txt"))
        labelled = {path.parent.parent for path in truths}
        bare = {path.parent for path in folder.rglob("seqinfo.ini")} - labelled
        if bare:
            source.dropped["sequences without gt/gt.txt"] += len(bare)
        for clip in sorted(labelled):
            name = clip.resolve().name
            match = _COPY.match(name)
            video = f"MOT-{match['number']}" if match else name
            year = match["year"] if match else ""
            if match is None and video in found:
                raise DataError(f"two sequences are named {name}: {found[video][1]} and {clip}")
            if video in found:
                copies += 1
                if found[video][0] >= year:
                    continue
            found[video] = (year, clip)
    if copies:
        source.notes.append(
            f"{copies} sequence{'s are' if copies > 1 else ' is'} left out: the same videos again (MOT17's three "
            "detectors, or MOT16 beside MOT17)"
        )
    if not found:
        raise DataError(f"{', '.join(map(str, folders))}: no sequence is there, that is no folder with gt/gt.txt")
    clips = [_clip(video, year, folder, source) for video, (year, folder) in found.items()]
    return sorted((clip for clip in clips if clip is not None), key=lambda clip: clip.name)


def _clip(video: str, year: str, folder: Path, source: Source) -> Clip | None:
    name = video.replace("MOT-", f"MOT{year}-", 1) if year else video
    images, length, size = folder / "img1", None, None
    info = folder / "seqinfo.ini"
    if info.is_file():
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(source.text(info))
            section = parser["Sequence"]
            images = folder / sources.inside(section.get("imDir", "img1"))
            length = section.getint("seqLength")
            width, height = section.getint("imWidth"), section.getint("imHeight")
            size = (width, height) if width and height else None
        except (configparser.Error, KeyError, ValueError) as error:
            source.faults.add(info, f"no section [Sequence] with numbers as MOT's have it: {error}")
            return None
    if not images.is_dir():
        source.faults.add(folder, f"there is no folder of frames {images}")
        return None
    frames = {
        int(path.stem): path
        for path in sorted(images.iterdir())
        if path.stem.isdecimal() and path.suffix.lower() in IMAGE_SUFFIXES
    }
    if not frames:
        source.faults.add(images, "there are no frames named by their numbers, as 000001.jpg")
        return None
    if length is not None and length != len(frames):
        source.faults.add(info, f"seqLength is {length}, but {images} has {len(frames)} frames")
    return Clip(name, folder, frames, size)


def read_rows(clip: Clip, source: Source) -> tuple[list[Row], set[int]]:
    """The rows of a sequence, and the frames of which a row is bad.

    Raises:
        DataError: If the file cannot be read, or is in the format of MOT15.
    """
    rows: list[Row] = []
    spoilt: set[int] = set()
    seen: set[tuple[int, int]] = set()
    for number, line in enumerate(source.text(clip.truth).splitlines(), 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        where = f"{clip.truth}:{number}"
        if len(cells) == 10 and cells[7:] == ["-1", "-1", "-1"]:
            raise DataError(f"{where}: ten columns without class and visibility: this is MOT15; MOT16, 17, 20 are read")
        try:
            row = _row(cells)
            if row.frame not in clip.frames:
                raise ValueError(f"there is no frame {row.frame}")
            if (row.frame, row.track) in seen:
                raise ValueError(f"track {row.track} is in frame {row.frame} twice")
        except ValueError as error:
            source.faults.add(where, str(error))
            spoilt.update(_frame(cells))
            continue
        seen.add((row.frame, row.track))
        rows.append(row)
    if not rows:
        source.faults.add(clip.truth, "there is no row")
    return rows, spoilt


def _row(cells: Sequence[str]) -> Row:
    if len(cells) != 9:
        raise ValueError(
            "nine columns were expected (frame, track, left, top, width, height, flag, class, visibility), "
            f"found {len(cells)}"
        )
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        raise ValueError(f"not numbers: {', '.join(cells)[:80]}") from None
    for place, name in ((0, "frame"), (1, "track"), (7, "class")):
        if not numbers[place].is_integer() or numbers[place] < (1 if place == 0 else 0):
            raise ValueError(f"the {name} is {cells[place]}; a whole number was expected")
    left, top, width, height = numbers[2:6]
    if not 0 <= numbers[8] <= 1:
        raise ValueError(f"the visibility is {cells[8]}; a share from 0 to 1 was expected")
    kind = int(numbers[7])
    ignored = kind == PEDESTRIAN and numbers[6] == 0
    box = box_of([left - 1, top - 1, width, height])
    return Row(int(numbers[0]), int(numbers[1]), box, ignored, kind, numbers[8])


def _frame(cells: Sequence[str]) -> Iterator[int]:
    """The frame of a bad row, where that can be told."""
    try:
        yield int(float(cells[0]))
    except (ValueError, OverflowError):
        return
