"""Photos with boxes of people -> the YOLO layout: images/<split>, labels/<split>, data.yaml."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from watchme.core.errors import DataError
from watchme.core.progress import Progress
from watchme.data.bad_records import Faults, Source
from watchme.data.images import open_image, read_image, reason, require_regular, shown_size
from watchme.data.pixel_boxes import Box, Size, clipped, label_line, overlaps
from watchme.data.prepare import conversion_summary as summary
from watchme.data.prepare import splits
from watchme.data.prepare.options import named, refuse_inside
from watchme.data.prepare.output_dir import Folder, filling
from watchme.io.image_files import IMAGE_SUFFIXES

_GREY = (114, 114, 114)  # of ultralytics' letterbox: what the detector sees as nothing
_SMALLEST = 10  # pixels: ultralytics refuses images with a shorter side


@dataclass(frozen=True)
class Photo:
    """One image of the source, and who is in it."""

    image: Path  # the file
    name: str  # its name in the dataset
    group: str  # what a split must not tear apart
    where: str  # the record, for messages
    people: tuple[Box, ...]  # a box each
    ignored: tuple[Box, ...] = ()  # regions whose people have no boxes of their own
    split: str | None = None  # where it belongs; None: chosen by the group's hash
    size: Size | None = None  # what the annotations say it measures


@dataclass(frozen=True)
class Rules:
    """How a dataset is made of the photos."""

    shares: Mapping[str, float]  # `val` and `test` -> part of the photos without a split of their own
    ignored: str = "keep"  # what happens to images with ignored regions: drop, paint, keep
    negatives: float = 1.0  # part of the images without people that is kept
    # Whether to warn of names that look like a video's frames, where photos are split by their names
    counted: bool = False


def rules_of(
    arguments: argparse.Namespace, shares: Mapping[str, float], ignored: str = "keep", *, counted: bool = False
) -> Rules:
    """The rules that a command line gives; `ignored` is the default of its --ignored, if it has one."""
    negatives = 1.0 if arguments.negatives is None else arguments.negatives
    return Rules(shares, getattr(arguments, "ignored", None) or ignored, negatives, counted)


@dataclass(frozen=True)
class _Planned:
    photo: Photo
    split: str
    lines: tuple[str, ...]
    paint: tuple[Box, ...]


def flat_name(path: str) -> str:
    """The name in the dataset of an image in sub-folders, which become a part of it: a/b.jpg -> a__b.jpg."""
    return "__".join(part for part in path.split("/") if part not in ("", "."))


def write(
    command: str,
    arguments: argparse.Namespace,
    photos: Sequence[Photo],
    source: Source,
    rules: Rules,
    options: Mapping[str, Any],
    folders: Sequence[Path],
) -> int:
    """Make the dataset of all photos of the source, print its counts, and return the exit status.

    `options` are what the output depends on besides the rules' own values. The output must be in none of the `folders`
    of the source.

    Raises:
        DataError: If records are bad and are not to be skipped, a split stays empty, or the folder cannot be used.
    """
    refuse_inside(arguments.out, folders)
    planned = _plan(photos, source, rules)
    if rules.counted and (pair := splits.look_like_video(Path(one.photo.name).stem for one in planned)):
        source.notes.append(
            f"warning: names such as {pair[0]}, {pair[1]} look like frames of a video. Neighbouring frames in two "
            "splits make the validation look better than it is: keep them together by --group-by, or give --val FILE"
        )
    everything = {
        **options,
        "val_share": rules.shares["val"],
        "test_share": rules.shares["test"],
        "ignored": rules.ignored,
        "negatives": rules.negatives,
    }
    with filling(
        arguments.out, command, everything, source.fingerprint, copy=arguments.copy, sources=named(arguments)
    ) as folder:
        expected = {_image(one) for one in planned} | {_label(one) for one in planned if one.lines} | {"data.yaml"}
        folder.refuse_strangers(expected, "images", "labels")
        counts = _write_images(planned, folder, source)
        used = [split for split in splits.SPLITS if counts[split]["images"]]
        folder.write(
            "data.yaml", "".join(f"{split}: images/{split}\n" for split in used) + "\nnc: 1\nnames: ['person']\n"
        )
        manifest = folder.finish(
            splits={split: dict(counts[split]) for split in used}, **summary.left_out(source), notes=source.notes
        )
    columns = {"images": "images", "people": "people", "negatives": "without people"}
    summary.print_summary(folder, manifest, source, columns)
    summary.print_next_commands("person_detection", folder.root)
    return 0


def _write_images(planned: Sequence[_Planned], folder: Folder, source: Source) -> dict[str, Counter[str]]:
    """Link or paint the images, and write their labels; returns the counts of each split."""
    counts = {split: Counter(images=0, people=0, negatives=0) for split in splits.SPLITS}
    late = Faults(source.faults.skip)
    for one in Progress("images", len(planned), "image").over(planned):
        try:
            if not one.paint:
                folder.link(one.photo.image, _image(one))
            elif not folder.has(_image(one)):
                folder.make(_image(one), partial(_paint, one))
        except DataError as error:
            late.add(one.photo.where, str(error))
            if not late.skip:
                raise DataError(f"{one.photo.where}: {error}\n--skip-bad leaves it out and counts it") from None
            continue
        if one.lines:
            folder.write(_label(one), "".join(f"{line}\n" for line in one.lines))
        counts[one.split].update(images=1, people=len(one.lines), negatives=not one.lines)
    source.faults.found += late.found
    return counts


def _image(one: _Planned) -> str:
    return f"images/{one.split}/{one.photo.name}"


def _label(one: _Planned) -> str:
    return f"labels/{one.split}/{Path(one.photo.name).stem}.txt"


def _plan(photos: Sequence[Photo], source: Source, rules: Rules) -> list[_Planned]:
    """Everything that will be written, with every fault found before anything is."""
    good = _measured(_distinct(photos, source), source)
    source.faults.settle()
    planned: list[_Planned] = []
    for photo, size in good:
        lines = []
        for box in photo.people:
            line = label_line(box, size)
            if line is None:
                source.dropped["boxes without area in the image"] += 1
            elif line in lines:
                source.dropped["boxes that stand there twice"] += 1
            else:
                lines.append(line)
        regions = [region for region in (clipped(region, size) for region in photo.ignored) if region is not None]
        if regions and rules.ignored == "drop":
            source.dropped["images with ignored regions (--ignored drop)"] += 1
            continue
        if not lines and splits.hashed(f"negative {photo.name}") >= rules.negatives:
            source.dropped["images without people (--negatives)"] += 1
            continue
        split = photo.split or splits.by_hash(photo.group, rules.shares["val"], rules.shares["test"])
        planned.append(_Planned(photo, split, tuple(lines), tuple(regions) if rules.ignored == "paint" else ()))
    if not planned:
        raise DataError("the source has no image to keep")
    if source.dropped and not any(one.lines for one in planned):
        why = "".join(f"\n    left out: {count:,} {what}" for what, count in sorted(source.dropped.items()))
        raise DataError(f"nobody is in any of the {len(planned):,} images: there is nothing to learn{why}")
    splits.require(Counter(one.split for one in planned), rules.shares)
    return planned


def _distinct(photos: Sequence[Photo], source: Source) -> list[Photo]:
    """Photos whose label files do not clash, and none of which is in two splits."""
    labels: dict[tuple[str | None, str], Photo] = {}
    files: dict[Path, Photo] = {}
    kept = []
    for photo in photos:
        key = (photo.split, Path(photo.name).stem)
        if photo.image.suffix.lower() not in IMAGE_SUFFIXES:
            source.faults.add(
                photo.where, f"{photo.image.name} is no image that is read ({', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        elif (other := labels.get(key)) is not None:
            text = f"{photo.image} would share its label file with {other.image}; rename one, with its label"
            source.faults.add(photo.where, text)
        elif (other := files.get(photo.image)) is not None:
            source.faults.add(photo.where, f"{photo.image} is in {photo.split} and in {other.split}")
        else:
            labels[key] = files[photo.image] = photo
            kept.append(photo)
    return kept


def _measured(photos: Sequence[Photo], source: Source) -> list[tuple[Photo, Size]]:
    """Photos with the sizes of their images, which are taken from the files and compared with the annotations."""
    found = []
    with ThreadPoolExecutor(8) as pool:
        measured = pool.map(measure, [photo.image for photo in photos])
        for photo, (size, length, fault) in zip(
            photos, Progress("reading images", len(photos), "image").over(measured), strict=True
        ):
            source.mark(photo.name, length)
            if fault:
                source.faults.add(photo.where, fault)
            elif photo.size is not None and photo.size != size:
                source.faults.add(
                    photo.where,
                    f"{photo.image.name} measures {size[0]} x {size[1]} as shown, the annotations say "
                    f"{photo.size[0]} x {photo.size[1]}" + (" (turned by EXIF?)" if photo.size == size[::-1] else ""),
                )
            elif min(size) < _SMALLEST:
                source.faults.add(
                    photo.where, f"{photo.image.name} measures {size[0]} x {size[1]}: too small to train on"
                )
            else:
                found.append((photo, size))
    return found


def measure(path: Path) -> tuple[Size, int, str]:
    """Width and height as shown, bytes, and what is wrong with an image file. Reads its header alone."""
    try:
        length = path.stat().st_size
        require_regular(path)
        with open_image(path) as image:
            return shown_size(image), length, ""
    except FileNotFoundError:
        return (0, 0), 0, f"there is no image {path}"
    except Exception as error:  # Pillow raises whatever its decoders raise
        return (0, 0), 0, f"{path} cannot be read as an image: {reason(error)}"


def _paint(one: _Planned, target: Path) -> None:
    """Write the image with its ignored regions grey, except where they meet labelled boxes."""
    path = one.photo.image
    image = read_image(path)
    people = [box for box in one.photo.people if overlaps(box, one.paint)]
    kept = [(box, image.crop(box)) for box in map(_round, people)]
    for region in one.paint:
        image.paste(_GREY, _round(region))
    for box, part in kept:
        image.paste(part, box[:2])
    Image.init()
    kind = Image.EXTENSION[path.suffix.lower()]
    image.save(target, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))


def _round(box: Box) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(value) for value in box)
    return left, top, right, bottom
