"""Images of people with names of their own -> Market-1501 naming, split by identity."""

import argparse
import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source, inside
from watchme.data.formats.market1501 import FOLDERS
from watchme.data.images import read_image
from watchme.data.prepare import closing_lines as summary
from watchme.data.prepare import options as sources
from watchme.data.prepare import splits
from watchme.data.prepare.output_dir import filling
from watchme.io.image_files import files_in, is_image, is_other_image

HELP = "crops of people in folders, or with names of your own, to Market-1501 naming"
USAGE = "FOLDER|CSV [--pattern PATTERN] --out FOLDER [options]"
DESCRIPTION = """\
Make a re-ID dataset in Market-1501 naming of images of people. Who is in an image, and which camera took it, is said
by one of these:

  folders    <identity>/x.jpg or <identity>/<camera>/x.jpg (the default)
  --pattern  the path of an image in FOLDER: a template such as '{id}_{camera}_{*}' or '{camera}/{id}/{*}', or a
             regular expression with groups (?P<id>...) and (?P<camera>...); without a camera, all are of one
  a CSV      with a header: path,id[,camera[,split]]; split is train, test, query or gallery

Identities and cameras may be any text; they are numbered, and identities.csv says how. Identities, never images, are
divided into train and test by their hash. A test identity gives one query of each camera, and the rest to the
gallery. One that is seen by a single camera gives its first image as a query and its last third to the gallery as if
another camera had taken it: that is easier than re-identification across cameras, and is said at the end."""
EXAMPLES = """\
examples:
    python -m watchme.data.prepare reid shop --out shop_reid
    python -m watchme.data.prepare reid crops --pattern '{camera}_{*}_id{id}_{*}' --out crops_reid
    python -m watchme.data.prepare reid crops.csv --test-share 0 --out train_only"""
_SPLITS = ("train", "test", "query", "gallery")


@dataclass(frozen=True)
class _View:
    """An image of a person."""

    path: Path
    identity: str
    camera: str
    split: str = ""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=Path, metavar="FOLDER|CSV", help="images in folders, or a list of them")
    parser.add_argument("--pattern", metavar="PATTERN", help="how paths in FOLDER say identity and camera")
    parser.add_argument(
        "--test-share", type=sources.share, metavar="SHARE", help="part of the identities for test (default: 0.3)"
    )
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert."""
    source = Source(Faults(arguments.skip_bad))
    path: Path = arguments.source
    if not path.exists():
        raise DataError(f"there is no {path}")
    if path.is_file():
        if arguments.pattern:
            raise DataError("--pattern is for a folder; a CSV says who is in each image")
        views = list(_of_csv(path, source))
    else:
        sources.refuse_inside(arguments.out, [path])
        views = list(_of_folder(path, arguments.pattern, source))
    views = [view for view in views if _readable(view, source)]
    source.faults.settle()
    identities, cameras = (_numbers(names) for names in ({v.identity for v in views}, {v.camera for v in views}))
    share = 0.3 if arguments.test_share is None else arguments.test_share
    files = dict(_placed(views, identities, cameras, share, source))
    _require(files, share)
    for name, view in files.items():
        source.mark(name, view.path.name, view.path.stat().st_size)
    options = {"pattern": arguments.pattern, "test_share": share}
    with filling(
        arguments.out, "reid", options, source.fingerprint, copy=arguments.copy, sources=sources.named(arguments)
    ) as folder:
        folder.refuse_strangers(set(files), *FOLDERS)
        for name, view in files.items():
            folder.link(view.path, name)
        folder.write("identities.csv", _table(identities, "identity"))
        folder.write("cameras.csv", _table(cameras, "camera"))
        counts = _counts(files)
        manifest = folder.finish(splits=counts, **summary.left_out(source), notes=source.notes)
    summary.print_summary(folder, manifest, source, {name: name for name in ("images", "identities", "cameras")})
    tested = counts["query"]["images"] > 0
    summary.print_next_commands("market1501", folder.root, model="osnet_ibn", use="both" if tested else "no test")
    return 0


def _of_folder(root: Path, pattern: str | None, source: Source) -> Iterator[_View]:
    rule = None if pattern is None else _compiled(pattern)
    for path in sorted(files_in(root)):
        if is_other_image(path):
            source.dropped["images of formats that are not read"] += 1
        if not is_image(path):
            continue
        name = path.relative_to(root).as_posix()
        if rule is None:
            parts = name.split("/")
            if len(parts) < 2:
                source.faults.add(path, "it is in no folder of an identity; --pattern says how names are to be read")
                continue
            yield _View(path, parts[0], parts[1] if len(parts) > 2 else "1")
        elif (match := rule.search(name)) is None:
            source.faults.add(path, f"its path {name} does not match --pattern {pattern}")
        else:
            yield _View(path, match["id"], match.groupdict().get("camera") or "1")


def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a template, or the one that is given."""
    text = pattern
    if "(?P<id>" not in pattern:
        if "{id}" not in pattern:
            raise DataError(f"--pattern {pattern}: expected {{id}} in it, e.g. '{{id}}_{{camera}}_{{*}}'")
        pieces = re.split(r"(\{id\}|\{camera\}|\{\*\})", pattern)
        named = {"{id}": r"(?P<id>[^/_.-]+)", "{camera}": r"(?P<camera>[^/_.-]+)", "{*}": r"[^/]*?"}
        seen: set[str] = set()
        text = r"(?:^|/)"
        for piece in pieces:
            if piece in seen and piece in ("{id}", "{camera}"):
                raise DataError(f"--pattern {pattern}: {piece} stands there twice")
            seen.add(piece)
            text += named.get(piece, re.escape(piece))
        text += "$" if re.search(r"\.\w+$", pattern) else r"(?:\.\w+)?$"
    try:
        return re.compile(text)
    except re.error as error:
        raise DataError(f"--pattern {pattern!r} is not a regular expression: {error}") from None


def _of_csv(path: Path, source: Source) -> Iterator[_View]:
    reader = csv.DictReader(io.StringIO(source.text(path)))
    columns = [name.strip().casefold() for name in reader.fieldnames or ()]
    if not {"path", "id"} <= set(columns):
        raise DataError(f"{path}: a header path,id[,camera[,split]] was expected, found {','.join(columns)[:80]}")
    reader.fieldnames = columns
    for number, row in enumerate(reader, 2):
        where = f"{path}:{number}"
        cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        image = Path(cells["path"])
        if not image.is_absolute():
            try:
                image = path.parent / inside(cells["path"])
            except ValueError as error:
                source.faults.add(where, str(error))
                continue
        if not cells["id"]:
            source.faults.add(where, "it has no id")
        elif cells.get("split", "") not in ("", *_SPLITS):
            source.faults.add(where, f"the split is {cells['split']}; {', '.join(_SPLITS)} were expected")
        else:
            yield _View(image, cells["id"], cells.get("camera") or "1", cells.get("split", ""))


def _readable(view: _View, source: Source) -> bool:
    try:
        read_image(view.path)
    except DataError as error:
        source.faults.found.append(str(error))
        return False
    return True


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """Each name's number from 1: of names that are numbers in their order."""
    return {
        name: number
        for number, name in enumerate(sorted(names, key=lambda text: (not text.isdecimal(), text.zfill(20))), 1)
    }


def _placed(
    views: Sequence[_View], identities: Mapping[str, int], cameras: Mapping[str, int], share: float, source: Source
) -> Iterator[tuple[str, _View]]:
    """The path of each image in the dataset."""
    by_identity: dict[str, list[_View]] = defaultdict(list)
    for view in views:
        by_identity[view.identity].append(view)
    counters: dict[tuple[str, str], int] = defaultdict(int)

    def named(view: _View, folder: str, other: int = 0) -> tuple[str, _View]:
        counters[view.identity, view.camera] += 1
        number, camera = counters[view.identity, view.camera], cameras[view.camera] + other
        stem = f"{identities[view.identity]:04d}_c{camera}s1_{number:06d}_01"
        return f"{folder}/{stem}{view.path.suffix.lower()}", view

    train, query, gallery = FOLDERS
    alone = 0
    for identity in sorted(by_identity, key=identities.__getitem__):
        own = sorted(by_identity[identity], key=lambda view: (cameras[view.camera], view.path))
        given = {view.split for view in own} - {""}
        if given & {"query", "gallery"}:
            yield from (named(view, {"query": query, "gallery": gallery}.get(view.split, train)) for view in own)
        elif given == {"train"} or (not given and splits.hashed(f"identity {identity}") >= share):
            yield from (named(view, train) for view in own)
        elif len({view.camera for view in own}) > 1:
            first: set[str] = set()
            for view in own:
                yield named(view, gallery if view.camera in first else query)
                first.add(view.camera)
        elif len(own) < 2:
            source.dropped["test identities with a single image"] += 1
        else:
            alone += 1
            third = max(1, len(own) // 3)
            yield named(own[0], query)
            yield from (named(view, gallery, len(cameras)) for view in own[-third:])
            source.dropped["images between query and gallery of test identities of one camera"] += len(own) - third - 1
    if alone:
        source.notes.append(
            f"{alone} test identities are seen by one camera: a query must find later images of its own camera. "
            "Compare models by it; it is easier than finding people in other cameras"
        )


def _require(files: Mapping[str, _View], share: float) -> None:
    counts = _counts(files)
    if counts["train"]["identities"] < 2:
        raise DataError(f"{counts['train']['identities']} identities are left to train on, two are needed at least")
    if share and not counts["query"]["images"]:
        raise DataError("no identity is left to test on; raise --test-share, or --test-share 0 does without a test")


def _counts(files: Mapping[str, _View]) -> dict[str, dict[str, int]]:
    counts = {}
    for split, folder in zip(("train", "query", "gallery"), FOLDERS, strict=True):
        own = [(name, view) for name, view in files.items() if name.startswith(f"{folder}/")]
        counts[split] = {
            "images": len(own),
            "identities": len({view.identity for _, view in own}),
            "cameras": len({name.split("_c")[1].split("s")[0] for name, _ in own}),
        }
    return counts


def _table(numbers: Mapping[str, int], kind: str) -> str:
    """Which number stands for which name, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", kind])
    writer.writerows((number, name) for name, number in numbers.items())
    return text.getvalue()
