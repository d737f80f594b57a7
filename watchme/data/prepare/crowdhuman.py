"""CrowdHuman's odgt -> YOLO layout."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source, inside
from watchme.data.pixel_boxes import Box, box_of
from watchme.data.prepare import options as sources
from watchme.data.prepare import splits
from watchme.data.prepare import yolo_writer as detection
from watchme.data.prepare.options import Part
from watchme.data.prepare.yolo_writer import Photo, flat_name, rules_of

HELP = "CrowdHuman's odgt to YOLO"
USAGE = "ODGT [--val ODGT] --out FOLDER [options]"
DESCRIPTION = """\
Make a YOLO dataset of CrowdHuman (Shao et al., 2018): one json a line, with a full and a visible box of each person.

Full boxes reach behind what hides a person, and out of the image: they are clipped. Boxes tagged `mask` and people
with `ignore` are regions, not labels: crowds, reflections, posters. Most images have some, so that dropping these
images would leave little; by default the regions are painted grey, except where they meet labelled boxes."""
EXAMPLES = """\
example:
    python -m watchme.data.prepare crowdhuman annotation_train.odgt \\
        --val annotation_val.odgt --images Images --box visible --out crowdhuman"""
_BOXES = {"full": "fbox", "visible": "vbox"}


def add(parser: argparse.ArgumentParser) -> None:
    sources.add_parts(parser, "ODGT", "Images beside the odgt")
    parser.add_argument("--box", choices=tuple(_BOXES), default="full", help="which box is the label (default: full)")
    sources.add_splits(parser, given=True)
    sources.add_negatives(parser, "`mask` and `ignore` regions", "paint")
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    source = Source(Faults(arguments.skip_bad))
    parts, shares = sources.parts_of(arguments)
    group = splits.grouping(arguments.group_by)
    photos: list[Photo] = []
    folders: list[Path] = []
    for part in parts:
        records = list(_records(part.path, source))
        here = part.path.absolute().parent
        places = [here / "Images", here / "images", here, here.parent / "Images"]
        if not records:
            source.faults.settle()
            raise DataError(f"{part.path} holds no record")
        first = f"{records[0][1]}.jpg"
        folders.append(sources.image_folder(part.images, part.option, places, first))
        # A line with a bad box is left out whole: its person would be background.
        found = [_photo(record, part, folders[-1], arguments.box, group, source) for record in records]
        photos += [photo for photo in found if photo is not None]
    rules = rules_of(arguments, shares, "paint", counted=arguments.group_by is None and any(shares.values()))
    options = {"box": arguments.box, "group_by": arguments.group_by, "given": [part.split or "all" for part in parts]}
    return detection.write("crowdhuman", arguments, photos, source, rules, options, folders)


_Record = tuple[str, PurePosixPath, list[dict[str, Any]]]


def _records(path: Path, source: Source) -> Iterator[_Record]:
    """Place, image without suffix, and boxes of each line."""
    seen: set[PurePosixPath] = set()
    for number, line in enumerate(source.text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            content = json.loads(line)
            if not isinstance(content, dict) or not isinstance(content.get("gtboxes"), list):
                raise ValueError("an object with ID and a list gtboxes was expected")
            name = inside(content.get("ID"))
            if not all(isinstance(box, dict) for box in content["gtboxes"]):
                raise ValueError("gtboxes must hold objects")
            if name in seen:
                raise ValueError(f"the ID {name} is there twice")
        except json.JSONDecodeError as error:
            source.faults.add(where, f"not json: {error.msg}, column {error.colno}")
        except (ValueError, RecursionError) as error:
            source.faults.add(where, str(error))
        else:
            seen.add(name)
            yield where, name, content["gtboxes"]


def _photo(
    record: _Record, part: Part, folder: Path, kind: str, group: Callable[[str, str], str], source: Source
) -> Photo | None:
    """The photo of a record; None where a box of it is bad."""
    where, name, entries = record
    people: list[Box] = []
    ignored: list[Box] = []
    for place, entry in enumerate(entries):
        try:
            box = box_of(entry.get(_BOXES[kind], entry.get("fbox")))
        except ValueError as error:
            source.faults.add(f"{where}: gtboxes[{place}]", str(error))
            return None
        extra = entry.get("extra")
        if entry.get("tag") == "person" and not (isinstance(extra, dict) and extra.get("ignore")):
            people.append(box)
        else:
            ignored.append(box)
    if ignored:
        source.dropped["`mask` and `ignore` regions, which are no labels"] += len(ignored)
    return Photo(
        folder / f"{name}.jpg",
        flat_name(f"{name}.jpg"),
        group(str(name.parent), name.name),
        f"{where} ({name})",
        tuple(people),
        tuple(ignored),
        part.split,
    )
