"""Penn-Fudan's pedestrians -> YOLO layout."""

import argparse
import re
from pathlib import Path

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source, inside
from watchme.data.pixel_boxes import Box, Size, box_of
from watchme.data.prepare import options as sources
from watchme.data.prepare import splits
from watchme.data.prepare import yolo_writer as detection
from watchme.data.prepare.yolo_writer import Photo, Rules

HELP = "Penn-Fudan's pedestrians to YOLO"
USAGE = "PennFudanPed --out FOLDER [options]"
DESCRIPTION = """\
Make a YOLO dataset of Penn-Fudan (Wang et al., 2007): 170 photos, PNGImages and Annotation of PennFudanPed.

Its boxes count pixels from 1, with the right and lower edge included. Each box of the annotations becomes a label,
those of people who are small or partly hidden among them, of which there are more than the paper counts; who has none
is background. Photos are divided by the hash of their names."""
EXAMPLES = """\
example:
    python -m watchme.data.prepare pennfudan PennFudanPed --out pennfudan"""
_IMAGE = re.compile(r'^Image filename\s*:\s*"([^"]+)"', re.M)
_SIZE = re.compile(r"^Image size \(X x Y x C\)\s*:\s*(\d+) x (\d+)", re.M)
_COUNT = re.compile(r"^Objects with ground truth\s*:\s*(\d+)", re.M)
_ORIGIN = re.compile(r"Top left pixel co-ordinates\s*:\s*\((\d+),\s*(\d+)\)")
_BOX = re.compile(
    r"^Bounding box for object \d+ .*\(Xmin, Ymin\) - \(Xmax, Ymax\)\s*:\s*"
    r"\((-?\d+),\s*(-?\d+)\)\s*-\s*\((-?\d+),\s*(-?\d+)\)",
    re.M,
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="PennFudanPed, with PNGImages and Annotation")
    sources.add_splits(parser, given=False)
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    source = Source(Faults(arguments.skip_bad))
    shares = sources.shares(arguments)
    group = splits.grouping(arguments.group_by)
    folder: Path = arguments.folder
    if not (folder / "Annotation").is_dir() and (folder / "PennFudanPed" / "Annotation").is_dir():
        folder = folder / "PennFudanPed"
    for name in ("PNGImages", "Annotation"):
        if not (folder / name).is_dir():
            raise DataError(f"{folder} is not PennFudanPed: it has no folder {name}")
    photos = []
    for path in sorted((folder / "Annotation").glob("*.txt")):
        try:
            name, size, people = _read(path, source)
        except ValueError as error:
            source.faults.add(path, str(error))
            continue
        stem = Path(name).stem
        photos.append(Photo(folder / "PNGImages" / name, name, group("", stem), str(path), people, size=size))
    options = {"group_by": arguments.group_by}
    return detection.write("pennfudan", arguments, photos, source, Rules(shares), options, [folder])


def _read(path: Path, source: Source) -> tuple[str, Size, tuple[Box, ...]]:
    """Name of the image, its size, people.

    Raises:
        ValueError: If the file is not as Penn-Fudan's are; says what.
    """
    text = source.text(path)
    image, size, count = _IMAGE.search(text), _SIZE.search(text), _COUNT.search(text)
    if image is None or size is None or count is None:
        raise ValueError("no annotation of Penn-Fudan: `Image filename`, `Image size` and `Objects with ground truth`")
    origin = _ORIGIN.search(text)
    x0, y0 = (int(origin[1]), int(origin[2])) if origin else (1, 1)
    people = []
    for match in _BOX.finditer(text):
        left, top, right, bottom = map(int, match.groups())
        people.append(box_of([left - x0, top - y0, right - left + 1, bottom - top + 1]))
    if len(people) != int(count[1]):
        raise ValueError(f"{count[1]} objects are announced, {len(people)} have a bounding box")
    return inside(image[1]).name, (int(size[1]), int(size[2])), tuple(people)
