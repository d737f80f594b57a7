"""Command-line options that several sources share: splits, ignored regions, annotation files, image folders."""

import argparse
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchme.core.errors import DataError


def add_common(parser: argparse.ArgumentParser, *, skip: bool = True, copy: bool = True) -> None:
    """Options of every sub-command, but for those that it has no use for."""
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the dataset is to be made")
    if skip:
        text = "leave bad records out and count them (default: they are an error)"
        parser.add_argument("--skip-bad", action="store_true", help=text)
    if copy:
        text = "copy images instead of linking them (default: hard links where possible)"
        parser.add_argument("--copy", action="store_true", help=text)


def add_splits(parser: argparse.ArgumentParser, *, given: bool) -> None:
    """Options of sources of unordered photos; `given`: a further annotation file may be a split of its own."""
    if given:
        parser.add_argument("--val", type=Path, metavar="FILE", help="annotations of the validation split")
        parser.add_argument("--test", type=Path, metavar="FILE", help="annotations of the test split")
    alone = " (default: 0.1; 0 beside --val or --test)" if given else " (default: 0.1)"
    for split in ("val", "test"):
        parser.add_argument(
            f"--{split}-share", type=share, metavar="SHARE", help=f"part of the photos that is for {split}{alone}"
        )
    parser.add_argument(
        "--group-by",
        metavar="folder|REGEX",
        help="photos that must not be torn apart: those of a folder, or whose names match alike, e.g. "
        "'^(cam\\d+_\\d{8})' (default: each photo goes by the hash of its own name)",
    )


def add_negatives(parser: argparse._ActionsContainer, ignored: str | None = None, default: str = "") -> None:
    """Options on images without people and, if `ignored` says what they are, on ignored regions."""
    if ignored:
        parser.add_argument(
            "--ignored",
            choices=("drop", "paint", "keep"),
            help=f"images with {ignored}: drop them; paint the region grey outside of labelled boxes (the image is "
            f"encoded again); or keep them, so that the region is background (default: {default})",
        )
    parser.add_argument(
        "--negatives",
        type=share,
        metavar="SHARE",
        help="part of the images without people to keep, by the hash of their names (default: 1, all)",
    )


def add_category(parser: argparse.ArgumentParser, what: str, default: str = "person") -> None:
    """Option that names the classes of people; `what` says what it is called in the source."""
    text = f"{what} that is a person; may be given several times (default: {default})"
    parser.add_argument("--category", action="append", metavar="NAME", help=text)


def share(text: str) -> float:
    """An argument from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def whole(text: str) -> int:
    """An argument that is a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def names(text: str) -> list[str]:
    """An argument of names between commas."""
    found = [item.strip() for item in text.split(",") if item.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"expected names between commas, found {text!r}")
    return found


def shares(arguments: argparse.Namespace, given: Sequence[str] = ()) -> dict[str, float]:
    """`--val-share` and `--test-share` with their defaults, where the splits `given` have annotations of their own.

    Raises:
        DataError: If a split is asked for twice, or nothing is left to train on.
    """
    found: dict[str, float] = {}
    for split in ("val", "test"):
        value = getattr(arguments, f"{split}_share")
        if value and split in given:
            raise DataError(f"--{split} and --{split}-share both make the {split} split; give one of them")
        found[split] = value if value is not None else (0.0 if given else 0.1)
    if "val" not in given and not found["val"]:
        raise DataError(
            "a dataset needs a validation split: give --val-share above 0" + ", or --val FILE" * bool(given)
        )
    if sum(found.values()) >= 1:
        raise DataError("--val-share and --test-share leave nothing to train on")
    return found


@dataclass(frozen=True)
class Part:
    """An annotation file that is a split, or all of the dataset."""

    split: str | None  # `train`, `val`, `test`; None where its photos are divided by their hashes
    path: Path  # the file
    images: Path | None  # the folder of its images, if it is given
    option: str  # the option that gives it


def add_parts(parser: argparse.ArgumentParser, metavar: str, place: str) -> None:
    """Declare an annotation file, and folders of images for it and for those of --val and --test."""
    help_text = "annotations; those of the training split beside --val"
    parser.add_argument("annotations", type=Path, metavar=metavar, help=help_text)
    for split in ("", "val-", "test-"):
        text = f"images of {metavar} (default: {place})"
        if split:
            text = f"images of --{split[:-1]} (default: the folder of --images, or {place})"
        parser.add_argument(f"--{split}images", type=Path, metavar="FOLDER", help=text)


def parts_of(arguments: argparse.Namespace) -> tuple[list[Part], dict[str, float]]:
    """The annotation files that are given, and the shares by which the first is divided.

    Raises:
        DataError: If a split is asked for twice, or there is none to validate on.
    """
    given = [split for split in ("val", "test") if getattr(arguments, split)]
    divided = shares(arguments, given)
    main = None if any(divided.values()) else "train"
    parts = [Part(main, arguments.annotations, arguments.images, "--images")]
    for split in given:
        own = getattr(arguments, f"{split}_images")
        parts.append(Part(split, getattr(arguments, split), own or arguments.images, f"--{split}-images"))
    return parts, divided


def image_folder(given: Path | None, option: str, candidates: Iterable[Path], first: str) -> Path:
    """The folder of the images: as given, or the first candidate that has the first image.

    Raises:
        DataError: If there is none.
    """
    if given is not None:
        if not given.is_dir():
            raise DataError(f"{option}: no such folder: {given}")
        return given
    looked = list(dict.fromkeys(candidates))
    for folder in looked:
        with contextlib.suppress(OSError):  # a name that is longer than the system allows
            if (folder / first).is_file():
                return folder
    places = "\n    ".join(map(str, looked))
    raise DataError(f"the images are not found; name their folder: {option} FOLDER\n{first} is not in\n    {places}")


def named(arguments: argparse.Namespace) -> dict[str, Any]:
    """The files and folders that a command line names, for the manifest; they are no part of what is compared."""
    found: dict[str, Any] = {}
    for key, value in sorted(vars(arguments).items()):
        if key != "out" and isinstance(value, Path):
            found[key] = str(value.resolve())
        elif isinstance(value, list) and value and isinstance(value[0], Path):
            found[key] = [str(path.resolve()) for path in value]
    return found


def refuse_inside(out: Path, folders: Iterable[Path]) -> None:
    """Raise a DataError if the output would be in a folder of the source, which is only read."""
    target = out.expanduser().resolve()
    for folder in folders:
        origin = folder.resolve()
        if target == origin or origin in target.parents:
            raise DataError(f"--out {out} is in the source {folder}, which is only read; choose a folder outside")
