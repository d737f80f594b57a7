"""YOLO labels as labelling tools export them, without splits -> a split YOLO dataset of people."""

import argparse
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source
from watchme.data.check.yolo_labels import box_of, read_label
from watchme.data.pixel_boxes import Box
from watchme.data.prepare import class_names, voc
from watchme.data.prepare import options as sources
from watchme.data.prepare import yolo_writer as detection
from watchme.data.prepare.frame_groups import divide
from watchme.data.prepare.yolo_writer import Photo, flat_name, rules_of
from watchme.io.image_files import files_in, is_image

HELP = "YOLO or VOC exports of Label Studio, CVAT, Roboflow, ..."
USAGE = "FOLDER ... --out FOLDER [options]"
DESCRIPTION = """\
Make a split YOLO dataset of the people in images whose labels are beside them, wherever in the folders they are:

  Label Studio   classes.txt, images/, labels/
  CVAT YOLO 1.1  obj.data, obj.names, obj_train_data/ with images and labels
  LabelImg       x.jpg with x.txt (and classes.txt), or with x.xml
  Roboflow       data.yaml, train/, valid/, test/ with images/ and labels/
  any other      images and labels of the same names

The label of an image is the .txt or .xml of its name in `labels` beside `images`, beside the image, or anywhere if
no other has the name. Class names are those of data.yaml, obj.names or classes.txt; paths in them are not used, as
exports name the folders of another machine.

Splits: train, valid and test are kept where folders are called so. Otherwise images are divided by the hash of their
names, but not torn apart are: frames of a video by their numbered names (videos as a whole, or blocks of frames where
there are fewer than three), copies of one image that Roboflow augmented, files of equal content, and images that look
all but alike with people at the same places."""
EXAMPLES = """\
examples:
    python -m watchme.data.prepare yolo project-3-at-2026-11-26 --out people
    python -m watchme.data.prepare yolo photos \\
        --names person,bicycle --out people"""
_PEOPLE = ("person", "people", "pedestrian", "human")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class _LabelRules(NamedTuple):
    """Class names by id, the ids and names that are people, and numbers of keypoints behind a box."""

    names: Sequence[str]
    wanted: set[int]
    categories: set[str]
    keypoint_values: int


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="with images and labels, at any depth")
    parser.add_argument("--names", type=sources.names, metavar="A,B", help="class names (default: from the export)")
    sources.add_category(parser, "class", ", ".join(_PEOPLE))
    parser.add_argument(
        "--splits", choices=("folders", "hash"), help="keep the split folders (default, where there are), or divide"
    )
    parser.add_argument(
        "--unlabelled",
        choices=("keep", "drop"),
        default="keep",
        help="images without a label file: nobody is in them, or they were not labelled (default: keep)",
    )
    sources.add_splits(parser, given=False)
    sources.add_negatives(parser)
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    source = Source(Faults(arguments.skip_bad))
    for folder in arguments.folders:
        if not folder.is_dir():
            raise DataError(f"no such folder: {folder}")
    files = sorted({path for folder in arguments.folders for path in files_in(folder)})
    images = [path for path in files if is_image(path)]
    if not images:
        raise DataError(f"{', '.join(map(str, arguments.folders))}: there are no images; name their folder, too")
    names = list(arguments.names or class_names.names_in(files))
    categories = {name.casefold() for name in arguments.category or _PEOPLE}
    labels = _labels(images, files)
    listed = any(path.suffix.lower() == ".txt" for path in labels.values())
    rules = _LabelRules(
        names,
        class_names.people_of(names, categories) if listed else set(),
        categories,
        class_names.keypoint_values(files),
    )
    photos = _photos(images, labels, rules, arguments, source)
    try:
        photos, shares = _with_splits(photos, arguments, source)
    except DataError:
        source.faults.settle()  # so little may be left to divide because of them
        raise
    made = rules_of(arguments, shares)
    options = {
        "categories": sorted(categories),
        "names": names,
        "splits": "hash" if any(shares.values()) else "folders",
        "group_by": arguments.group_by,
        "unlabelled": arguments.unlabelled,
    }
    return detection.write("yolo", arguments, photos, source, made, options, arguments.folders)


def _photos(
    images: Sequence[Path],
    labels: Mapping[Path, Path],
    rules: _LabelRules,
    arguments: argparse.Namespace,
    source: Source,
) -> list[Photo]:
    """The images with their people, those with a bad label left out."""
    photos = []
    for image in images:
        label = labels.get(image)
        if label is None and arguments.unlabelled == "drop":
            source.dropped["images without a label file (--unlabelled drop)"] += 1
        elif (people := _read(image, label, rules, source)) is not None:
            photos.append(Photo(image, flat_name(_below(image, arguments.folders)), "", str(label or image), people))
    missing = len(images) - len(labels)
    if missing and arguments.unlabelled == "keep":
        source.notes.append(
            f"{missing:,} of {len(images):,} images have no label file: they count as images without people "
            "(--unlabelled drop leaves them out)"
        )
    return photos


def _with_splits(
    photos: Sequence[Photo], arguments: argparse.Namespace, source: Source
) -> tuple[list[Photo], dict[str, float]]:
    """Photos with their splits, those in none of the split folders left out; and the shares, 0 for folders."""
    given = {photo.image: _split_of(photo.image) for photo in photos}
    keep = arguments.splits != "hash" and {"train", "val"} <= set(given.values())
    if arguments.splits == "folders" and not keep:
        raise DataError("--splits folders: there are no folders train and valid")
    if keep and (arguments.val_share is not None or arguments.test_share is not None or arguments.group_by):
        raise DataError("the splits are the folders train, valid and test; shares and groups need --splits hash")
    shares = {"val": 0.0, "test": 0.0} if keep else sources.shares(arguments)
    places = given if keep else divide(photos, arguments.group_by, shares, source)
    if outside := sum(place is None for place in places.values()):
        source.dropped["images in no folder of a split (--splits hash divides them)"] += outside
    return [replace(photo, split=places[photo.image]) for photo in photos if places[photo.image]], shares


def _labels(images: Sequence[Path], files: Sequence[Path]) -> dict[Path, Path]:
    """Image -> its label file, of those that have one."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in (".txt", ".xml") and path.is_file():
            by_stem[_stem(path)].append(path)
    stems: dict[str, int] = defaultdict(int)
    for image in images:
        stems[_stem(image)] += 1
    found = {}
    for image in images:
        candidates = by_stem.get(_stem(image), [])
        wanted = (_in_labels(image.parent), image.parent)
        own = [path for folder in wanted for path in candidates if path.parent == folder]
        if own:
            found[image] = own[0]
        elif len(candidates) == 1 and stems[_stem(image)] == 1:
            found[image] = candidates[0]
    return found


def _stem(path: Path) -> str:
    """A name without its suffix, the same however its umlauts are encoded: archives made on a Mac take them apart."""
    return unicodedata.normalize("NFC", path.stem)


def _in_labels(folder: Path) -> Path:
    """The folder of labels that belongs to one of images: the last `images` in its path is `labels`."""
    parts = list(folder.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place].casefold() in ("images", "jpegimages"):
            parts[place] = "labels" if parts[place].casefold() == "images" else "Annotations"
            break
    return Path(*parts)


def _read(image: Path, label: Path | None, rules: _LabelRules, source: Source) -> tuple[Box, ...] | None:
    """The people of an image; None where a line of its label is bad, so that somebody would be background."""
    if label is None:
        return ()
    source.mark(label.name, hashlib.sha256(label.read_bytes()).hexdigest())
    if label.suffix.lower() == ".xml":
        try:
            _, people, difficult = voc.read_annotation(label, rules.categories, source)
        except ValueError as error:
            source.faults.add(label, str(error))
            return None
        return tuple(people + difficult)
    lines = read_label(label, len(rules.names), rules.keypoint_values)
    if bad := [line for line in lines if line.fault]:
        for line in bad:
            source.faults.add(f"{label}:{line.number}", line.fault)
        return None
    # That the image cannot be read is reported when the dataset is planned.
    width, height = detection.measure(image)[0]
    boxes = [box_of(line) for line in lines if line.class_id in rules.wanted]
    if others := len(lines) - len(boxes):
        source.dropped["boxes of other classes"] += others
    return tuple(
        (
            (box.x - box.w / 2) * width,
            (box.y - box.h / 2) * height,
            (box.x + box.w / 2) * width,
            (box.y + box.h / 2) * height,
        )
        for box in boxes
    )


def _below(image: Path, folders: Iterable[Path]) -> str:
    """The name of an image by its path in a folder of the source, without the folders that all exports have."""
    relative = next((image.relative_to(folder) for folder in folders if image.is_relative_to(folder)), image)
    dull = {"images", "img", "obj_train_data", "obj_valid_data", "jpegimages", *_SPLITS}
    return "/".join(part for part in relative.parts if part.casefold() not in dull)


def _split_of(image: Path) -> str | None:
    """The split that the folders of an image say: train/images/a.jpg, images/val/a.jpg, obj_train_data/a.jpg."""
    for part in reversed(image.parts[:-1]):
        name = re.sub(r"^obj_(\w+)_data$", r"\1", part.casefold())
        if name in _SPLITS:
            return _SPLITS[name]
    return None
