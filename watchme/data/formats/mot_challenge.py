"""MOTChallenge sequences (MOT15 to MOT20, CVAT's MOT export): numbered frames, and gt/gt.txt with a track a person.

    <sequence>/img1/000001.jpg
    <sequence>/gt/gt.txt        frame, track, left, top, width, height, flag, class, visibility
    <sequence>/gt/labels.txt    names of the classes, from 1 (CVAT); without it MOT's own classes are meant
    <sequence>/seqinfo.ini      imDir, seqLength, imWidth, imHeight, frameRate

Frames, tracks and pixels count from 1 (motchallenge.net/instructions); a flag of 0 means: ignored in evaluation. MOT15
has x, y, z in the world in place of class and visibility. Classes: 1 pedestrian, 2 person on a vehicle, 7 static
person, 8 distractor, 12 reflection, 13 crowd; others are no people (Milan et al., 2016; Dendorfer et al., 2020).
"""

import configparser
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchme.core.errors import DataError
from watchme.data.bad_records import Source, inside
from watchme.data.pixel_boxes import Box, Size, box_of
from watchme.io.image_files import is_image

PEDESTRIAN = 1
CROWD = 13
PEOPLE = {1: "pedestrian", 2: "person on a vehicle", 7: "static person"}
_NO_PERSON = 0
_BEYOND = 2**53  # from here on, not every whole number is a float
_COLUMNS = "frame, track, left, top, width, height, flag, class, visibility"
# MOT17 has each sequence three times, once for each detector; MOT16 has the same videos under its own name.
_COPY = re.compile(r"^MOT(?P<year>16|17)-(?P<number>\d+)(?:-(?:DPM|FRCNN|SDP))?$")


@dataclass(frozen=True)
class Row:
    """One line of gt.txt."""

    frame: int  # from 1
    track: int  # identity within the sequence
    box: Box  # in pixels, from 0; may reach out of the image
    ignored: bool  # whether a pedestrian is flagged as not to be considered
    kind: int  # class
    visibility: float  # visible share of the box, 0 to 1; 1 where the file does not say


@dataclass(frozen=True)
class Clip:
    """A sequence: one video of one camera."""

    name: str  # without the detector's: MOT17-02
    folder: Path  # the sequence's
    frames: dict[int, Path]  # number -> image
    size: Size | None = None  # what seqinfo.ini says the frames measure
    frame_rate: float | None = None  # frames a second, if seqinfo.ini says it

    @property
    def truth(self) -> Path:
        """Its gt.txt."""
        return self.folder / "gt" / "gt.txt"


def has_sequences(root: Path) -> bool:
    """Whether a folder is a sequence, or has some in it or in the folders in it; fast, however many frames it has."""
    return any(path.is_file() for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}gt/gt.txt"))


def find_clips(folders: Sequence[Path], source: Source) -> list[Clip]:
    """All sequences in some folders, at any depth, each video once, in the order of their names.

    Raises:
        DataError: If there is none, or two have one name.
    """
    found: dict[str, tuple[str, Path]] = {}
    copies = 0
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"no such folder: {folder}")
        labelled = {path.parent.parent for path in folder.rglob("gt/gt.txt")}
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
    images, length, size, rate = folder / "img1", None, None, None
    info = folder / "seqinfo.ini"
    if info.is_file():
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(source.text(info))
            section = parser["Sequence"]
            images = folder / inside(section.get("imDir", "img1"))
            length, rate = section.getint("seqLength"), section.getfloat("frameRate")
            width, height = section.getint("imWidth"), section.getint("imHeight")
            size = (width, height) if width and height else None
        except (configparser.Error, KeyError, ValueError) as error:
            source.faults.add(info, f"no section [Sequence] with numbers as MOT's have it: {error}")
            return None
    if not images.is_dir():
        source.faults.add(folder, f"there is no folder of frames {images}")
        return None
    numbered = [path for path in sorted(images.iterdir()) if path.stem.isdecimal() and is_image(path)]
    frames: dict[int, Path] = {}
    for path in numbered:
        if (other := frames.setdefault(int(path.stem), path)) != path:
            source.faults.add(path, f"{other.name} has the number of this frame, too")
    if not frames:
        source.faults.add(images, "there are no frames named by their numbers, as 000001.jpg")
        return None
    if length is not None and length != len(frames):
        source.faults.add(info, f"seqLength is {length}, but {images} has {len(frames)} frames")
    return Clip(name, folder, frames, size, rate)


def read_rows(clip: Clip, source: Source) -> tuple[list[Row], set[int]]:
    """The rows of a sequence, and the frames of which a row is bad.

    Raises:
        DataError: If a file cannot be read.
    """
    rows: list[Row] = []
    spoilt: set[int] = set()
    seen: set[tuple[int, int]] = set()
    classes, unknown = _classes(clip, source), 0
    lines = [(number, line) for number, line in enumerate(source.text(clip.truth).splitlines(), 1) if line.strip()]
    split = [(number, [cell.strip() for cell in line.split(",")]) for number, line in lines]
    longer = _has_class_in_ten([cells for _, cells in split])
    if longer:
        source.notes.append(
            f"{clip.truth} has ten columns, of which eight and nine are class and visibility in all rows"
        )
    for number, cells in split:
        where = f"{clip.truth}:{number}"
        try:
            row, says_visibility = _row(cells[:9] if longer else cells, classes)
            if row.frame not in clip.frames:
                raise ValueError(f"there is no frame {row.frame}")
            if (row.frame, row.track) in seen:
                raise ValueError(f"track {row.track} is in frame {row.frame} twice")
        except ValueError as error:
            source.faults.add(where, str(error))
            spoilt.update(_frame(cells))
            continue
        unknown += not says_visibility
        seen.add((row.frame, row.track))
        rows.append(row)
    if not rows:
        source.faults.add(clip.truth, "there is no row")
    if unknown:
        source.notes.append(f"{clip.truth} gives no visibility in {unknown:,} rows: they count as wholly visible")
    return rows, spoilt


def _has_class_in_ten(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows of ten columns have class and visibility, as nine have, and not MOT15's place in the world.

    A place hardly ever is a class from 1 to 13 beside a share from 0 to 1, in each row of a file.
    """

    def is_one(cells: Sequence[str]) -> bool:
        if len(cells) != 10 or not cells[7].isdecimal() or not 1 <= int(cells[7]) <= CROWD:
            return False
        try:
            return 0 <= float(cells[8]) <= 1
        except ValueError:
            return False

    return bool(rows) and all(map(is_one, rows))


def _classes(clip: Clip, source: Source) -> dict[int, int] | None:
    """The file's classes -> MOT's, by the names that CVAT writes beside gt.txt; None without such a file."""
    path = clip.folder / "gt" / "labels.txt"
    if not path.is_file():
        return None
    kinds = {"person": PEDESTRIAN, "people": PEDESTRIAN, **{name: kind for kind, name in PEOPLE.items()}}
    names = [line.strip().casefold().replace("_", " ") for line in source.text(path).splitlines() if line.strip()]
    if not any(name in kinds for name in names):
        raise DataError(f"{path} names no person or pedestrian among its classes: {', '.join(names[:20])}")
    return {number: kinds.get(name, _NO_PERSON) for number, name in enumerate(names, 1)}


def _row(cells: Sequence[str], classes: dict[int, int] | None) -> tuple[Row, bool]:
    """A row, and whether it says how visible the person is."""
    if not 7 <= len(cells) <= 10:
        raise ValueError(f"nine columns were expected ({_COLUMNS}), found {len(cells)}")
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        raise ValueError(f"not numbers: {', '.join(cells)[:80]}") from None
    # Ten columns are MOT15's, which end in a place in the world; some tools leave class or visibility out.
    kind = numbers[7] if 8 <= len(cells) <= 9 else -1
    visibility = numbers[8] if len(cells) == 9 else -1
    kind = PEDESTRIAN if kind == -1 else kind
    for name, value, least in (("frame", numbers[0], 1), ("track", numbers[1], 0), ("class", kind, 0)):
        if not float(value).is_integer() or not least <= value < _BEYOND:
            raise ValueError(f"the {name} is {value:g}; a whole number from {least} was expected")
    left, top, width, height = numbers[2:6]
    if not (visibility == -1 or 0 <= visibility <= 1):
        raise ValueError(f"the visibility is {cells[8]}; a share from 0 to 1 was expected")
    kind = int(kind) if classes is None else classes.get(int(kind), _NO_PERSON)
    ignored = kind == PEDESTRIAN and numbers[6] == 0
    box = box_of([left - 1, top - 1, width, height])
    known = visibility != -1
    return Row(int(numbers[0]), int(numbers[1]), box, ignored, kind, visibility if known else 1.0), known


def _frame(cells: Sequence[str]) -> Iterator[int]:
    """The frame of a bad row, where it can be read."""
    try:
        yield int(float(cells[0]))
    except (ValueError, OverflowError):
        return
