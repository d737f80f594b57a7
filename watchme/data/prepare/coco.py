"""COCO json -> YOLO layout, people only."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source, inside
from watchme.data.pixel_boxes import Box, Size, box_of
from watchme.data.prepare import options as sources
from watchme.data.prepare import splits
from watchme.data.prepare import yolo_writer as detection
from watchme.data.prepare.options import Part
from watchme.data.prepare.yolo_writer import Photo, flat_name, rules_of

HELP = "COCO json to YOLO, people only"
USAGE = "JSON [--val JSON] --out FOLDER [options]"
DESCRIPTION = """\
Make a YOLO dataset of the people in a COCO json. Images are linked, not copied; those without people are kept as
negatives. Boxes are clipped to the image; those without area are dropped and counted.

`iscrowd` regions are no labels. A detector would be taught that the people in them are background, and its
validation would call their boxes wrong: such images are left out of all splits, unless --ignored says otherwise.

Splits: each json given by --val or --test is a split. With one json alone, photos are divided by the hash of their
names, so that a photo stays in its split when others are added. Frames of videos: see --group-by."""
EXAMPLES = """\
examples:
    python -m watchme.data.prepare coco \\
        annotations/instances_train2017.json --images train2017 --out people \\
        --val annotations/instances_val2017.json --val-images val2017
    python -m watchme.data.prepare coco shop.json --out shop \\
        --group-by '^(cam\\d+)'"""


def add(parser: argparse.ArgumentParser) -> None:
    sources.add_parts(parser, "JSON", "looked for near the json")
    sources.add_splits(parser, given=True)
    sources.add_negatives(parser, "`iscrowd` regions of people", "drop")
    sources.add_category(parser, "category")
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    source = Source(Faults(arguments.skip_bad))
    parts, shares = sources.parts_of(arguments)
    group = splits.grouping(arguments.group_by)
    categories = arguments.category or ["person"]
    photos: list[Photo] = []
    folders: list[Path] = []
    for part in parts:
        content = _load(part.path, source)
        first = _first_name(content, part.path)
        folders.append(sources.image_folder(part.images, part.option, _candidates(part.path), first))
        photos += _photos(content, part, folders[-1], categories, group, source)
    rules = rules_of(arguments, shares, "drop", counted=arguments.group_by is None and any(shares.values()))
    options = {
        "categories": sorted(categories),
        "group_by": arguments.group_by,
        "given": [part.split or "all" for part in parts],
    }
    return detection.write("coco", arguments, photos, source, rules, options, folders)


def _load(path: Path, source: Source) -> dict[str, Any]:
    """A COCO json without its outlines, which are most of it."""

    def without_outline(item: dict[str, Any]) -> dict[str, Any]:
        item.pop("segmentation", None)
        return item

    try:
        content = json.loads(source.text(path), object_hook=without_outline)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not json: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply for a COCO json") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise DataError(f"{path} cannot be read as json: {error}") from None
    listed = content.get("annotations") if isinstance(content, dict) else None
    if isinstance(listed, list) and any(isinstance(each, dict) and "caption" in each for each in listed):
        raise DataError(
            f"{path} is a json of captions, which have no boxes. Take the json of instances, e.g. "
            "instances_val2017.json"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path} is no COCO json: it has no list `{key}`")
    if any(isinstance(annotation, dict) and "segments_info" in annotation for annotation in content["annotations"]):
        raise DataError(
            f"{path} is a panoptic json: its annotations are segments of a mask image, and no boxes. Take the json of "
            "instances, e.g. instances_val2017.json"
        )
    return dict(content)


def _candidates(path: Path) -> Iterator[Path]:
    """Where images are beside a json: its folder, or COCO's annotations/instances_train2017.json and train2017/."""
    here, above = path.absolute().parent, path.absolute().parent.parent
    part = path.stem.rpartition("_")[2]
    yield from (here / "images", here, here / part, here / "images" / part)
    yield from (above / part, above / "images" / part, above / "images", above)


def _first_name(content: Mapping[str, Any], path: Path) -> str:
    for image in content["images"]:
        try:
            return str(inside(image.get("file_name")))
        except (ValueError, AttributeError):
            continue
    raise DataError(f"{path} names no image")


def _photos(
    content: Mapping[str, Any],
    part: Part,
    folder: Path,
    categories: list[str],
    group: Callable[[str, str], str],
    source: Source,
) -> Iterator[Photo]:
    path = part.path
    people, regions, spoilt = _boxes(content, path, _categories(content, path), categories, source)
    seen: set[object] = set()
    for place, image in enumerate(content["images"]):
        where = f"{path}: images[{place}]"
        try:
            identifier, name, size = _image(image)
        except ValueError as error:
            source.faults.add(where, str(error))
            continue
        if identifier in seen:
            source.faults.add(where, f"the id {identifier!r} is there twice")
            continue
        seen.add(identifier)
        if identifier in spoilt:
            source.dropped["images with a bad annotation (--skip-bad)"] += 1
            continue
        yield Photo(
            folder / name,
            flat_name(str(name)),
            group(str(name.parent), name.stem),
            f"{where} ({name})",
            tuple(people.get(identifier, ())),
            tuple(regions.get(identifier, ())),
            part.split,
            size,
        )
    known = {image["id"] for image in content["images"] if isinstance(image, dict) and _is_id(image.get("id"))}
    for unknown in sorted({*people, *regions} - known, key=str):
        source.faults.add(path, f"annotations of an image {unknown!r} that is not in `images`")


def _categories(content: Mapping[str, Any], path: Path) -> dict[object, str]:
    """Id of each category -> its name, as it is compared."""
    names: dict[object, str] = {}
    for place, category in enumerate(content["categories"]):
        if (
            not isinstance(category, dict)
            or not _is_id(category.get("id"))
            or not isinstance(category.get("name"), str)
        ):
            raise DataError(f"{path}: categories[{place}]: an id and a name were expected, found {category!r}")
        names[category["id"]] = category["name"].strip().casefold()
    return names


def _wanted(names: Mapping[object, str], path: Path, categories: list[str]) -> set[object]:
    """Ids of the categories that are people."""
    wanted: set[object] = set()
    for name in categories:
        found = {number for number, known in names.items() if known == name.strip().casefold()}
        if not found:
            there = ", ".join(sorted(names.values())[:20])
            raise DataError(
                f"{path} has no category {name}; it has: {there or 'none'}\n    --category NAME says who is a person"
            )
        wanted |= found
    return wanted


def _boxes(
    content: Mapping[str, Any], path: Path, names: Mapping[object, str], categories: list[str], source: Source
) -> tuple[dict[object, list[Box]], dict[object, list[Box]], set[object]]:
    """Image id -> boxes of people, and -> crowd regions; ids of images of which an annotation is bad."""
    wanted = _wanted(names, path, categories)
    people: dict[object, list[Box]] = {}
    regions: dict[object, list[Box]] = {}
    spoilt: set[object] = set()
    for place, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{place}]"
        if (fault := _id_fault(annotation, names)) is not None:
            source.faults.add(where, fault)
            # It may be of a person, who would be background in the image.
            if isinstance(annotation, dict) and _is_id(annotation.get("image_id")):
                spoilt.add(annotation["image_id"])
            continue
        image = annotation["image_id"]
        if annotation["category_id"] not in wanted:
            source.dropped["boxes of other categories"] += 1
            continue
        try:
            box = box_of(annotation.get("bbox"))
        except ValueError as error:
            source.faults.add(f"{where} (image {image})", str(error))
            spoilt.add(image)
            continue
        if (crowd := annotation.get("iscrowd") or 0) not in (0, 1):
            source.faults.add(f"{where} (image {image})", f"iscrowd is {crowd!r}; 0 or 1 were expected")
            spoilt.add(image)
            continue
        (regions if crowd else people).setdefault(image, []).append(box)
    if regions:
        source.dropped["crowd regions, which are no labels"] += sum(map(len, regions.values()))
    return people, regions, spoilt


def _id_fault(annotation: object, names: Mapping[object, str]) -> str | None:
    """What is wrong with the image and the category that an annotation names; None if nothing is."""
    if not isinstance(annotation, dict) or not {"image_id", "category_id"} <= annotation.keys():
        return "image_id and category_id were expected"
    image, category = annotation["image_id"], annotation["category_id"]
    if not _is_id(image) or not _is_id(category):
        return f"ids must be whole numbers or text, found {image!r}, {category!r}"
    # As another category's the person would be background; 1 and "1" are two ids.
    return None if category in names else f"the category {category!r} is not in `categories`"


def _is_id(value: object) -> bool:
    """Whether it is text or a whole number, as which tables that pandas wrote have 1.0, too."""
    return isinstance(value, str) or _is_whole(value)


def _is_whole(value: object) -> TypeGuard[int | float]:
    return type(value) is int or (type(value) is float and value.is_integer())


def _image(image: object) -> tuple[int | str, Any, Size | None]:
    """Id, file name, and size of an entry of `images`."""
    if not isinstance(image, dict) or not _is_id(image.get("id")):
        raise ValueError("an entry with an id and a file_name was expected")
    name = inside(image.get("file_name"))
    width, height = image.get("width"), image.get("height")
    if width is None and height is None:
        return image["id"], name, None
    if _is_whole(width) and _is_whole(height) and min(width, height) >= 1:
        return image["id"], name, (int(width), int(height))
    raise ValueError(f"width and height must be whole numbers above 0, found {width!r} x {height!r}")
