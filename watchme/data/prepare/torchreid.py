"""Archives of the re-ID datasets that torchreid knows -> where `dataset.root` expects them."""

import argparse
import hashlib
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

from watchme.core.errors import DataError
from watchme.core.progress import Progress
from watchme.data.bad_records import Faults, Source
from watchme.data.formats.reid_datasets import REID_DATASETS, DatasetLayout, own_layout, recognize
from watchme.data.prepare import archives
from watchme.data.prepare import conversion_summary as summary
from watchme.data.prepare import options as sources
from watchme.data.prepare.archive_layout import Move, find_move
from watchme.data.prepare.archives import Container
from watchme.data.prepare.output_dir import MANIFEST, UNFINISHED, Folder, filling

HELP = "archives of Market-1501, MSMT17, CUHK03, ... to their places"
USAGE = "ARCHIVE ... [--name NAME] --out FOLDER [options]"
DESCRIPTION = f"""\
Unpack archives of a re-ID dataset (zip, tar, tar.gz) to where `dataset.root` expects it, whatever folders are around
it in the archive. A folder that is unpacked already is linked there; single files (.mat, .json) are put beside.
Parts may come one after the other: what is still missing is said.

Datasets: {", ".join(REID_DATASETS)}. Any other --name is a dataset of your own in Market-1501 naming.

Every entry is looked at first. Refused, with nothing unpacked: paths that lead out of the folder, links, devices,
encrypted or doubled entries, more than --max-gib, and more than 100 times the archive's size from 1 GiB on."""
EXAMPLES = """\
examples:
    python -m watchme.data.prepare torchreid \\
        Market-1501-v15.09.15.zip --out /data/reid
    python -m watchme.data.prepare torchreid \\
        cuhk03_release.zip cuhk03_new_protocol_config_*.mat --out /data/reid
    python -m watchme.data.prepare torchreid \\
        shop.zip --name shop --out /data/reid"""
_LITTER = re.compile(r"(^|/)(__MACOSX|\.DS_Store|Thumbs\.db|\._[^/]*)(/|$)")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archives", type=Path, nargs="+", metavar="ARCHIVE", help="zip, tar, folder or single file")
    parser.add_argument("--name", help="which dataset it is (default: by the archive's name)")
    parser.add_argument(
        "--max-gib", type=sources.whole, default=64, metavar="N", help="refuse what unpacks to more (default: 64)"
    )
    sources.add_common(parser, skip=False)


def run(arguments: argparse.Namespace) -> int:
    paths: list[Path] = arguments.archives
    for path in paths:
        if not path.exists():
            raise DataError(f"there is no file {path}")
    name = arguments.name or _name(paths, arguments.max_gib * 2**30)
    if arguments.name and not re.fullmatch(r"[\w.-]*\w[\w.-]*", arguments.name):
        raise DataError(f"--name {arguments.name}: letters, digits, _, - and . were expected")
    dataset = REID_DATASETS.get(name) or own_layout(name)
    root = arguments.out / dataset.folder
    sources.refuse_inside(root, [path for path in paths if path.is_dir()])
    plans = [_plan(path, name, dataset, arguments.max_gib * 2**30) for path in paths]
    source = Source(Faults())
    marks = {path.name: mark for path, _, mark, _ in plans}
    with filling(
        root, "torchreid", {"dataset": dataset.folder}, "", copy=arguments.copy, sources={"archives": marks}
    ) as folder:
        known: dict[str, str] = folder.before.get("sources", {}).get("archives", {})
        for path, move, mark, size in plans:
            folder.same_source = known.get(path.name, mark) == mark
            _room(root, size, folder)
            _unpack(path, move, folder, source, arguments.max_gib * 2**30)
        lacking = dataset.missing(root)
        ours = {root / MANIFEST, root / UNFINISHED}
        counts = {"files": sum(path.is_file() for path in root.rglob("*") if path not in ours)}
        facts = {"sources": {"archives": dict(sorted({**known, **marks}.items()))}, "splits": {name: counts}}
        manifest = folder.finish(**facts, missing=lacking, **summary.left_out(source))
    summary.print_summary(folder, manifest, source, {"files": "files"}, heading="dataset")
    if lacking:
        print(f"still missing in {root}:\n    " + "\n    ".join(lacking))
        print("unpack the rest of the dataset by the same command")
        return 1
    out = arguments.out.expanduser().absolute()
    if name in REID_DATASETS:
        summary.print_next_commands(name, out, model="osnet_ibn", use=dataset.use)
    else:
        summary.print_next_commands("market1501", out / dataset.folder, model="osnet_ibn")
    return 0


def _name(paths: Sequence[Path], limit: int) -> str:
    """Which dataset some archives are, by their names, or those of the folders in them.

    Raises:
        DataError: If these do not say.
    """
    name = recognize(path.name for path in paths)
    if name is None:
        inner: set[str] = set()
        for path in paths:
            if path.is_dir() or archives.is_archive(path):
                with archives.opened(path, limit) as container:
                    inner |= {part for entry in container.entries for part in entry.name.split("/")[:2]}
        name = recognize(inner)
    if name is None:
        names = ", ".join(path.name for path in paths)
        raise DataError(
            f"which dataset is {names}? Say --name one of {', '.join(REID_DATASETS)},\n"
            "    or --name <other> for a dataset of your own in Market-1501 naming (bounding_box_train, query, ...)"
        )
    return name


def _plan(path: Path, name: str, dataset: DatasetLayout, limit: int) -> tuple[Path, Move | str, str, int]:
    """Where an archive goes, a fingerprint of it, and its bytes.

    Raises:
        DataError: If it has nothing of the dataset, or holds what is refused.
    """
    if path.is_file() and (not archives.is_archive(path) or path.name in _single(dataset)):
        target = _single(dataset).get(path.name)
        if target is None:
            raise DataError(
                f"{path} is no archive, and no file of {name}, which has: "
                + (", ".join(_single(dataset)) or "folders alone")
            )
        state = path.stat()
        return path, target, f"{state.st_size}", state.st_size
    with archives.opened(path, limit) as container:
        found = find_move(dataset, _all_paths(container))
        if found is None:
            expected = "\n    or ".join(", ".join(layout[:6]) for layout in dataset.layouts)
            raise DataError(
                f"{path} holds nothing of {name}, which consists of\n    {expected}\n--name says what it is"
            )
        digest = hashlib.sha256()
        for entry in container.entries:
            digest.update(f"{entry.name} {entry.size} {entry.mark}\n".encode())
        return path, found[0], digest.hexdigest()[:20], sum(entry.size for entry in container.entries)


def _single(dataset: DatasetLayout) -> dict[str, str]:
    """Single files of a dataset: name -> where."""
    return {
        path.rpartition("/")[2]: path
        for layout in dataset.layouts
        for path in layout
        if path.endswith((".mat", ".json", ".txt"))
    }


def _all_paths(container: Container) -> set[str]:
    """Files, and the folders that they are in."""
    paths: set[str] = set()
    for entry in container.entries:
        name = entry.name
        if _LITTER.search(name):
            continue
        while name and name not in paths:
            paths.add(name)
            name = name.rpartition("/")[0]
    return paths


def _room(root: Path, size: int, folder: Folder) -> None:
    """Raise a DataError if the disk has no room for all of it."""
    free = shutil.disk_usage(root).free
    if not folder.before and size > free:
        raise DataError(f"{root}: {size / 2**30:.1f} GiB are needed, the disk has {free / 2**30:.1f} GiB left")


def _unpack(path: Path, move: Move | str, folder: Folder, source: Source, limit: int) -> None:
    if isinstance(move, str):
        folder.link(path, move)
        return
    with archives.opened(path, limit) as container:
        bar = Progress(path.name, len(container.entries), "file").over(container.files())
        for entry, content in bar:
            target = None if _LITTER.search(entry.name) else move(entry.name)
            if target is None:
                source.dropped[f"files of {path.name} beside the dataset"] += 1
            elif isinstance(content, Path):
                folder.link(content, target)
            elif not folder.has(target, entry.size):
                folder.make(target, partial(_pour, content, entry.size))


def _pour(stream: IO[bytes], size: int, target: Path) -> None:
    """Write a stream to a file; an entry that is longer or shorter than announced is damaged."""
    with target.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
        if file.tell() != size:
            raise EOFError(f"{target.name} has {file.tell()} bytes instead of {size}")
