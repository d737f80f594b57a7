"""PASCAL VOC xml -> YOLO layout."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source
from watchme.data.pixel_boxes import Box, Size, box_of
from watchme.data.prepare import options as sources
from watchme.data.prepare import splits
from watchme.data.prepare import yolo_writer as detection
from watchme.data.prepare.yolo_writer import Photo, flat_name, rules_of

HELP = "PASCAL VOC xml to YOLO, people only"
USAGE = "FOLDER ... --out FOLDER [options]"
DESCRIPTION = """\
Make a YOLO dataset of the people in folders in the layout of PASCAL VOC: Annotations/*.xml and JPEGImages.

The lists ImageSets/Main/train.txt, val.txt and test.txt are the splits where train and val are there; images in no
list, and lists without annotations, are left out. Otherwise photos go by the hash of their names (--splits hash).
VOC counts pixels from 1, with the right and lower edge included: xmin 1, xmax 10 are the edges 0 and 10. The files of
LabelImg, CVAT and Label Studio, which say so in <database>, have the edges themselves.
`difficult` people are labels like others; `--difficult ignored` makes them regions (see --ignored)."""
EXAMPLES = """\
example:
    python -m watchme.data.prepare voc \\
        VOCdevkit/VOC2007 VOCdevkit/VOC2012 --out voc_people"""
# What LabelImg (pascal_voc_io.py), CVAT by Datumaro (voc_format) and Label Studio (converter.py) write as the database;
# their corners are edges from 0.
_COUNT_FROM_ZERO = ("Unknown", "MyDatabase")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="with Annotations and JPEGImages")
    parser.add_argument(
        "--splits",
        choices=("lists", "hash"),
        help="by the lists in ImageSets/Main, or by hashes (default: lists where train.txt and val.txt are there)",
    )
    parser.add_argument(
        "--difficult", choices=("label", "ignored"), default="label", help="people marked difficult (default: label)"
    )
    sources.add_category(parser, "name of an object")
    sources.add_splits(parser, given=False)
    sources.add_negatives(parser, "difficult people, with --difficult ignored", "drop")
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    source = Source(Faults(arguments.skip_bad))
    shares = sources.shares(arguments)
    group = splits.grouping(arguments.group_by)
    categories = {name.casefold() for name in arguments.category or ["person"]}
    lists = {folder: _lists(folder, source) for folder in arguments.folders}
    by_lists = arguments.splits == "lists" or (
        arguments.splits is None and any({"train", "val"} <= found.keys() for found in lists.values())
    )
    if by_lists:
        if arguments.val_share is not None or arguments.test_share is not None or arguments.group_by:
            raise DataError("the splits are the lists in ImageSets/Main; shares and groups need --splits hash")
        shares = {"val": 0.0, "test": 0.0}
    photos: list[Photo] = []
    for folder, found in lists.items():
        photos += _photos(folder, found if by_lists else None, categories, arguments.difficult, group, source)
    rules = rules_of(arguments, shares, "drop", counted=arguments.group_by is None and not by_lists)
    options = {
        "categories": sorted(categories),
        "difficult": arguments.difficult,
        "splits": "lists" if by_lists else "hash",
        "group_by": arguments.group_by,
    }
    return detection.write("voc", arguments, photos, source, rules, options, arguments.folders)


def _lists(folder: Path, source: Source) -> dict[str, list[str]]:
    """Split -> names of images, as the lists say."""
    for name in ("Annotations", "JPEGImages"):
        if not (folder / name).is_dir():
            raise DataError(f"{folder} is not in the layout of VOC: it has no folder {name}")
    found = {}
    for split in splits.SPLITS:
        path = folder / "ImageSets" / "Main" / f"{split}.txt"
        if path.is_file():
            # Lists of one class have a second column; those of all classes have none.
            found[split] = [line.split()[0] for line in source.text(path).splitlines() if line.strip()]
    return found


def _photos(
    folder: Path,
    lists: dict[str, list[str]] | None,
    categories: set[str],
    difficult: str,
    group: Callable[[str, str], str],
    source: Source,
) -> Iterator[Photo]:
    annotated = {path.stem: path for path in sorted((folder / "Annotations").glob("*.xml"))}
    if not annotated:
        raise DataError(f"{folder / 'Annotations'} holds no xml")
    chosen: list[tuple[str | None, str]] = [(None, name) for name in annotated]
    if lists is not None:
        chosen = []
        for part, names in lists.items():
            if any(name in annotated for name in names):
                chosen += [(part, name) for name in names]
            else:
                source.notes.append(f"{folder}: the list of {part} is left out, no image of it has annotations")
        unlisted = len(annotated.keys() - {name for _, name in chosen})
        if unlisted:
            source.dropped["images in no list of ImageSets/Main"] += unlisted
    pictures = {path.stem: path for path in sorted((folder / "JPEGImages").iterdir()) if not path.is_dir()}
    for split, name in chosen:
        path = folder / "Annotations" / f"{name}.xml"
        if name not in annotated:
            source.faults.add(folder / "ImageSets" / "Main" / f"{split}.txt", f"{name} has no {path}")
            continue
        try:
            size, people, marked = read_annotation(path, categories, source)
        except ValueError as error:
            source.faults.add(path, str(error))
            continue
        regions = marked if difficult == "ignored" else []
        if regions:
            source.dropped["difficult people, which are no labels (--difficult ignored)"] += len(regions)
        image = pictures.get(name, folder / "JPEGImages" / f"{name}.jpg")
        boxes = people if difficult == "ignored" else people + marked
        yield Photo(image, flat_name(image.name), group("", name), str(path), tuple(boxes), tuple(regions), split, size)


def read_annotation(path: Path, categories: set[str], source: Source) -> tuple[Size | None, list[Box], list[Box]]:
    """Size, people, and people marked as difficult.

    Raises:
        ValueError: If the file is not as VOC's are; says what.
    """
    try:
        root = ElementTree.fromstring(source.read(path))
    except (ElementTree.ParseError, LookupError) as error:  # an encoding that there is not is a LookupError
        raise ValueError(f"not xml: {error}") from None
    if root.tag != "annotation":  # as CVAT's own, whose people would be background
        raise ValueError(f"not the annotation of an image as VOC has it: it begins with <{root.tag[:40]}>")
    first = 0 if (root.findtext("source/database") or "").strip() in _COUNT_FROM_ZERO else 1
    people: list[Box] = []
    difficult: list[Box] = []
    for place, item in enumerate(root.findall("object")):
        name = (item.findtext("name") or "").strip()
        if name.casefold() not in categories:
            source.dropped["boxes of other categories"] += 1
            continue
        corners = []
        for corner in ("xmin", "ymin", "xmax", "ymax"):
            text = item.findtext(f"bndbox/{corner}")  # of the person, not of a `part` such as the head
            try:
                corners.append(float(text or ""))
            except ValueError:
                raise ValueError(f"object[{place}] ({name}): {corner} is no number: {text!r}") from None
        left, top, right, bottom = corners
        try:
            box = box_of([left - first, top - first, right - left + first, bottom - top + first])
        except ValueError as error:
            raise ValueError(f"object[{place}] ({name}): {error}") from None
        (difficult if (item.findtext("difficult") or "0").strip() == "1" else people).append(box)
    return _size(root), people, difficult


def _size(root: ElementTree.Element) -> Size | None:
    width, height = (root.findtext(f"size/{side}") for side in ("width", "height"))
    try:
        found = int(float(width or 0)), int(float(height or 0))
    except (ValueError, OverflowError):
        raise ValueError(f"size: no numbers: {width!r} x {height!r}") from None
    return found if min(found) > 0 else None  # some tools write 0 x 0
