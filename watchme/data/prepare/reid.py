"""Images of people with names of their own -> Market-1501 naming, split by identity."""

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from watchme.core.errors import DataError
from watchme.data.bad_records import Faults, Source
from watchme.data.formats import own_names
from watchme.data.formats.market1501 import FOLDERS, ROLES
from watchme.data.formats.own_names import Sighting, View
from watchme.data.images import read_image
from watchme.data.prepare import conversion_summary as summary
from watchme.data.prepare import options as sources
from watchme.data.prepare import splits
from watchme.data.prepare.output_dir import filling
from watchme.io.image_files import files_in, is_image, is_other_image

HELP = "crops of people, sorted or named your way, to Market-1501"
USAGE = "FOLDER|CSV [--pattern PATTERN] --out FOLDER [options]"
DESCRIPTION = """\
Make a re-ID dataset in Market-1501 naming of images of people. Who is in an image, and which camera took it, is said
by one of these:

  folders      <identity>/x.jpg or <identity>/<camera>/x.jpg (the default)
  --tracklets  <identity>/<tracklet>/frame.jpg: images that belong together,
               for dataset.tracklets=true
  --pattern    the path of an image in FOLDER: a template such as
               '{id}_{camera}_{*}' or '{camera}/{id}/{*}', or a regular
               expression with groups (?P<id>...) and (?P<camera>...); without
               a camera, all are of one; {tracklet} names tracklets, as MARS
               does: '{id}C{camera}T{tracklet}F{*}'
  a CSV        with a header: path,id[,camera[,tracklet[,split]]]; split is
               train, test, query or gallery

A training reads most of these without a conversion: dataset.root=FOLDER 'dataset.pattern="{id}_{camera}_{*}"', or
dataset.root=crops.csv. Here a test split is made, too.

Identities and cameras may be any text; they are numbered, and identities.csv says how. Identities, never images, are
divided into train and test by their hash. A test identity gives one query of each camera, and the rest to the
gallery. One that is seen by a single camera gives its first image as a query and its last third to the gallery as if
another camera had taken it: that is easier than re-identification across cameras, and is said at the end."""
EXAMPLES = """\
examples:
    python -m watchme.data.prepare reid shop --out shop_reid
    python -m watchme.data.prepare reid crops --out crops_reid \\
        --pattern '{camera}_{*}_id{id}_{*}'
    python -m watchme.data.prepare reid crops.csv \\
        --test-share 0 --out train_only"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FOLDER|CSV", help="images in folders, or a list of them")
    parser.add_argument("--pattern", metavar="PATTERN", help="how paths in FOLDER say identity, camera, tracklet")
    parser.add_argument("--tracklets", action="store_true", help="folders below those of identities are tracklets")
    parser.add_argument(
        "--test-share", type=sources.share, metavar="SHARE", help="part of the identities for test (default: 0.3)"
    )
    sources.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    source = Source(Faults(arguments.skip_bad))
    path: Path = arguments.source
    if not path.exists():
        raise DataError(f"there is no {path}")
    views = [view for view in _views(arguments, source) if _readable(view, source)]
    source.faults.settle()
    identities, cameras = (
        own_names.numbers(names) for names in ({v.identity for v in views}, {v.camera for v in views})
    )
    share = 0.3 if arguments.test_share is None else arguments.test_share
    files = dict(_placed(views, identities, cameras, share, source))
    _require(files, share)
    for name, view in files.items():
        source.mark(name, view.path.name, view.path.stat().st_size)
    options = {"pattern": arguments.pattern, "test_share": share, "tracklets": arguments.tracklets}
    with filling(
        arguments.out, "reid", options, source.fingerprint, copy=arguments.copy, sources=sources.named(arguments)
    ) as folder:
        folder.refuse_strangers(set(files), *FOLDERS)
        for name, view in files.items():
            folder.link(view.path, name)
        folder.write("identities.csv", _table(identities, "identity"))
        folder.write("cameras.csv", _table(cameras, "camera"))
        counts = counts_of(files)
        manifest = folder.finish(splits=counts, **summary.left_out(source), notes=source.notes)
    summary.print_summary(folder, manifest, source, {name: name for name in ("images", "identities", "cameras")})
    tested = counts["query"]["images"] > 0
    summary.print_next_commands(
        "market1501",
        folder.root,
        model="osnet_ibn",
        use="both" if tested else "no test",
        more="dataset.tracklets=true" if any(view.tracklet for view in files.values()) else "",
    )
    return 0


def _views(arguments: argparse.Namespace, source: Source) -> Iterator[View]:
    path: Path = arguments.source
    if arguments.pattern and arguments.tracklets:
        raise DataError("--tracklets is for folders of identities; with --pattern, {tracklet} says it")
    if path.is_file():
        if arguments.pattern or arguments.tracklets:
            raise DataError("--pattern and --tracklets are for a folder; a CSV says who is in each image")
        return own_names.views_of_list(path, source.text(path), source.faults.add)
    sources.refuse_inside(arguments.out, [path])
    if arguments.pattern:
        return own_names.views_of_folder(
            path, own_names.compiled(arguments.pattern, "--pattern"), source.faults.add, lambda image: _not_read(source)
        )
    return _of_folders(path, source, tracklets=arguments.tracklets)


def _not_read(source: Source) -> None:
    source.dropped["images of formats that are not read"] += 1


def _of_folders(root: Path, source: Source, *, tracklets: bool) -> Iterator[View]:
    """<identity>/x.jpg, and by a folder between them a camera or a tracklet."""
    for path in sorted(files_in(root)):
        if is_other_image(path):
            _not_read(source)
        if not is_image(path):
            continue
        identity, *between = path.relative_to(root).as_posix().split("/")[:-1] or [""]
        if not identity:
            source.faults.add(path, "it is in no folder of an identity; --pattern says how names are to be read")
        elif tracklets:
            yield View(path, identity, tracklet="/".join(between) or "1")
        else:
            yield View(path, identity, between[0] if between else "1")


def _readable(view: View, source: Source) -> bool:
    try:
        read_image(view.path)
    except DataError as error:
        source.faults.found.append(str(error))
        return False
    return True


def _placed(
    views: Sequence[View], identities: Mapping[str, int], cameras: Mapping[str, int], share: float, source: Source
) -> Iterator[tuple[str, View]]:
    """The path of each image in the dataset."""
    by_identity: dict[int, list[View]] = defaultdict(list)
    for view in views:
        by_identity[identities[view.identity]].append(view)
    tracklets: dict[tuple[int, int], int] = defaultdict(int)
    images: dict[tuple[int, int], int] = defaultdict(int)

    def named(pid: int, one: Sighting, folder: str, other: int = 0) -> Iterator[tuple[str, View]]:
        camera = cameras[one[0].camera] + other
        tracklets[pid, camera] += bool(one[0].tracklet)
        for view in one:
            images[pid, camera] += 1
            stem = f"{pid:04d}_c{camera}s{max(1, tracklets[pid, camera])}_{images[pid, camera]:06d}_01"
            yield f"{folder}/{stem}{view.path.suffix.lower()}", view

    train, query, gallery = FOLDERS
    places = {"query": query, "gallery": gallery}
    alone = 0
    for pid, seen in sorted(by_identity.items()):
        own = own_names.sightings(seen)
        given = {view.split for view in seen} - {""}
        if given & {"query", "gallery"}:
            for one in own:
                yield from named(pid, one, places.get(one[0].split, train))
            continue
        key = min(view.identity for view in seen)
        if given == {"train"} or (not given and splits.hashed(f"identity {key}") >= share):
            for one in own:
                yield from named(pid, one, train)
            continue
        queries, rest, later = own_names.divided(own)
        if not queries:
            source.dropped[f"test identities with a single {'tracklet' if seen[0].tracklet else 'image'}"] += 1
        alone += later and bool(queries)
        for found in queries:
            yield from named(pid, found, query)
        for found in rest:
            yield from named(pid, found, gallery, len(cameras) if later else 0)
        if later and (between := len(own) - len(queries) - len(rest)):
            source.dropped["images between query and gallery of test identities of one camera"] += between
    if alone:
        source.notes.append(
            f"{alone} test identities are seen by one camera: a query must find later images of its own camera. "
            "Compare models by it; it is easier than finding people in other cameras"
        )


def _require(files: Mapping[str, View], share: float) -> None:
    counts = counts_of(files)
    if counts["train"]["identities"] < 2:
        raise DataError(f"{counts['train']['identities']} identities are left to train on, two are needed at least")
    if share and not counts["query"]["images"]:
        raise DataError("no identity is left to test on; raise --test-share, or --test-share 0 does without a test")


def counts_of(names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Images, identities and cameras of each split, by paths in Market-1501 naming."""
    crops = [(name.partition("/")[0], *Path(name).name.split("_")[:2]) for name in names]
    counts = {}
    for split, folder in zip(ROLES, FOLDERS, strict=True):
        own = [(pid, camera.partition("s")[0]) for place, pid, camera in crops if place == folder]
        counts[split] = {
            "images": len(own),
            "identities": len({pid for pid, _ in own}),
            "cameras": len({camera for _, camera in own}),
        }
    return counts


def _table(numbers: Mapping[str, int], kind: str) -> str:
    """Which number stands for which name, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", kind])
    writer.writerows((number, name) for name, number in numbers.items())
    return text.getvalue()
