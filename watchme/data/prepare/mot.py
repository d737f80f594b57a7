"""MOT16, MOT17, MOT20 and others in that format -> YOLO layout, or Market-1501 crops."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source
from watchme.data.formats.mot_challenge import CROWD, PEOPLE, Clip, find_clips, read_rows
from watchme.data.pixel_boxes import Box
from watchme.data.prepare import mot_crops, splits
from watchme.data.prepare import options as sources
from watchme.data.prepare import yolo_writer as detection
from watchme.data.prepare.yolo_writer import Photo, rules_of

HELP = "MOT16, MOT17, MOT20 to YOLO, or to Market-1501 crops for re-ID"
USAGE = "FOLDER ... --to yolo|reid --out FOLDER [options]"
DESCRIPTION = """\
Make a dataset of sequences in the format of MOT16, MOT17 and MOT20: img1/000001.jpg and gt/gt.txt in each.
A sequence is never torn apart; of MOT17's three copies of each one is taken, and MOT16's beside MOT17 none.

--to yolo: each frame is an image, people of --classes are labels. Who is less visible than --min-visibility is
background; class 13 (crowd) and pedestrians flagged as ignored are regions, see --ignored.

--to reid: crops in Market-1501 naming, identity = track, camera = sequence. MOT starts its numbers again in
each sequence, so nobody is seen by two cameras, and nobody could be found in another camera's pictures. Therefore
  - training identities are the tracks of the training sequences;
  - in test sequences the last third of each track counts as a second camera,
    and the middle third is left out: a query from the first third must find
    the same track later. That is easier than finding people in other cameras:
    compare models by it, and do not report it as cross-camera re-ID.
With --ids shared, numbers mean the same person in all sequences (cameras of your own that were annotated together):
then camera = sequence throughout, and identities, not sequences, are divided into train and test."""
EXAMPLES = """\
examples:
    python -m watchme.data.prepare mot MOT17/train --to yolo \\
        --every 10 --out mot17
    python -m watchme.data.prepare mot MOT20/train --to reid \\
        --test-sequences MOT20-03 --out mot20_reid"""
_ONLY = {"yolo": ("val_share", "val_sequences", "ignored", "negatives"), "reid": ("ids", "min_height", "min_crops")}


def add(parser: argparse.ArgumentParser) -> None:
    people = ", ".join(f"{number} {name}" for number, name in PEOPLE.items())
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="sequences are looked for below it")
    parser.add_argument("--to", choices=("yolo", "reid"), required=True, help="what is made")
    parser.add_argument(
        "--classes", type=sources.names, metavar="N,N", help=f"who is a person: {people} (default: 1,2,7; --to reid: 1)"
    )
    parser.add_argument(
        "--min-visibility",
        type=sources.share,
        metavar="SHARE",
        help="least visible part (default: 0.25; --to reid: 0.5)",
    )
    parser.add_argument(
        "--every", type=sources.whole, metavar="N", help="take each N-th frame (default: 1; --to reid: 10)"
    )
    parser.add_argument(
        "--test-sequences", type=sources.names, metavar="A,B", help="for test (default: by --test-share)"
    )
    parser.add_argument(
        "--test-share", type=sources.share, metavar="SHARE", help="part of the sequences (default: 0.1; --to reid: 0.3)"
    )
    yolo = parser.add_argument_group("with --to yolo")
    yolo.add_argument("--val-sequences", type=sources.names, metavar="A,B", help="for val (default: by --val-share)")
    yolo.add_argument("--val-share", type=sources.share, metavar="SHARE", help="part of the sequences (default: 0.1)")
    sources.add_negatives(yolo, "class 13 and ignored pedestrians", "paint")
    reid = parser.add_argument_group("with --to reid")
    reid.add_argument(
        "--ids", choices=("own", "shared"), help="whether sequences have ids of their own or share them (default: own)"
    )
    reid.add_argument("--min-height", type=sources.whole, metavar="PX", help="least height of a crop (default: 64)")
    reid.add_argument("--min-crops", type=sources.whole, metavar="N", help="least crops of an identity (default: 4)")
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    _refuse_options_of_the_other(arguments)
    reid = arguments.to == "reid"
    source = Source(Faults(arguments.skip_bad))
    classes = {int(text) for text in arguments.classes or (["1"] if reid else ["1", "2", "7"]) if text.isdecimal()}
    if unknown := {text for text in arguments.classes or () if not text.isdecimal()}:
        raise DataError(f"--classes: numbers were expected, found {', '.join(sorted(unknown))}")
    visible = arguments.min_visibility if arguments.min_visibility is not None else 0.5 if reid else 0.25
    every = arguments.every or (10 if reid else 1)
    clips = find_clips(arguments.folders, source)
    if reid:
        return mot_crops.run(arguments, clips, source, classes, visible, every)
    places = _places(arguments, [clip.name for clip in clips])
    photos = [photo for clip in clips for photo in _photos(clip, places[clip.name], classes, visible, every, source)]
    rules = rules_of(arguments, {"val": 0.0, "test": 0.0}, "paint")
    made: dict[str, Any] = {
        "to": "yolo",
        "classes": sorted(classes),
        "min_visibility": visible,
        "every": every,
        "sequences": dict(sorted(places.items())),
    }
    return detection.write("mot", arguments, photos, source, rules, made, arguments.folders)


def _refuse_options_of_the_other(arguments: argparse.Namespace) -> None:
    """Raise a DataError for an option that has no effect with this --to."""
    for to, options in _ONLY.items():
        for option in options if to != arguments.to else ():
            if getattr(arguments, option) is not None:
                raise DataError(f"--{option.replace('_', '-')} does nothing with --to {arguments.to}; leave it out")


def _places(arguments: argparse.Namespace, names: list[str]) -> dict[str, str]:
    """Sequence -> split: as named, and the rest by shares."""
    named = splits.by_name(names, arguments.val_sequences or (), arguments.test_sequences or ())
    for split in ("val", "test"):
        if getattr(arguments, f"{split}_sequences") and getattr(arguments, f"{split}_share"):
            raise DataError(f"--{split}-sequences and --{split}-share both make the {split} split; give one of them")
    val, test = (
        0.0 if getattr(arguments, f"{split}_sequences") else 0.1 if value is None else value
        for split, value in (("val", arguments.val_share), ("test", arguments.test_share))
    )
    if not val and not arguments.val_sequences:
        raise DataError("a dataset needs a validation split: give --val-share above 0, or --val-sequences")
    if arguments.val_sequences and arguments.test_share is None:
        test = 0.0  # who names a split means it: the others are for training
    rest = [name for name in names if named[name] == "train"]
    return {**named, **splits.by_rank(rest, val, test)} if val or test else named


def _photos(clip: Clip, split: str, classes: set[int], visible: float, every: int, source: Source) -> Iterator[Photo]:
    people: dict[int, list[Box]] = {}
    regions: dict[int, list[Box]] = {}
    rows, spoilt = read_rows(clip, source)
    for row in rows:
        if (row.frame - 1) % every:
            continue
        if row.kind == CROWD or (row.ignored and row.kind in classes):
            regions.setdefault(row.frame, []).append(row.box)
            source.dropped["crowds and ignored pedestrians, which are no labels"] += 1
        elif row.kind not in classes:
            source.dropped["boxes of other classes"] += 1
        elif row.visibility < visible:
            source.dropped[f"people less visible than {visible:g}"] += 1
        else:
            people.setdefault(row.frame, []).append(row.box)
    for frame, image in clip.frames.items():
        if (frame - 1) % every:
            source.dropped[f"frames between each {every}. one"] += 1
        elif frame in spoilt:
            source.dropped["frames with a bad row (--skip-bad)"] += 1
        else:
            boxes, ignored = tuple(people.get(frame, ())), tuple(regions.get(frame, ()))
            name = f"{clip.name}_{frame:06d}{image.suffix.lower()}"
            yield Photo(image, name, clip.name, f"{clip.truth}: frame {frame}", boxes, ignored, split, clip.size)
