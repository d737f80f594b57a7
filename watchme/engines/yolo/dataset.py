"""The checked copy of a YOLO dataset that ultralytics trains on: links in watchme's cache folder.

ultralytics writes cache files beside the labels, rewrites truncated JPEGs in place, drops images with bad labels
silently, and cannot remap classes. So every file is checked first, and ultralytics gets a folder of links to the
images, labels of the kept classes, and a data.yaml with absolute paths. The user's dataset is only read.
"""

import contextlib
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml
from PIL import Image

from watchme.core.errors import DataError
from watchme.data.check.image_probe import has_end
from watchme.data.check.yolo_labels import read_label
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.layout import IMAGE_SUFFIXES, Layout
from watchme.io.cache import cache_dir
from watchme.io.files import whole_folder

log = logging.getLogger(__name__)

# Change it when the copy's content would differ for the same dataset.
_VERSION = 2
_DONE = "scan.json"
_SHOWN = 20


@dataclass
class Scan:
    """Counts and faults of a dataset.

    Attributes:
        fingerprint: Hash of the names, sizes and times of all files, and of the kept classes.
        splits: Split -> counts of images, boxes, negatives (images without a box), unlabelled (those of them without
            a label file) and unreadable images.
        names: Names of the kept classes.
        skipped: Unreadable images, which are left out.
    """

    fingerprint: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Item:
    image: Path
    label: Path
    name: Path  # below images/<split>


def prepare(layout: Layout, classes: Sequence[int | str] | None) -> tuple[Path, Scan]:
    """Check a dataset and return the data.yaml of its copy, and the counts.

    Args:
        layout: Where the dataset is.
        classes: Class ids or names to keep; None keeps all.

    Returns:
        The data.yaml with absolute paths, and the scan. Unchanged files reuse the copy.

    Raises:
        DataError: If a label line is invalid (each file and line is named), or a split has no readable image.
    """
    kept = layout.kept_classes(classes)
    items = {split: list(_items(places)) for split, places in layout.splits.items()}
    fingerprint = _fingerprint(layout, kept, items)
    folder = cache_dir() / "yolo-datasets" / fingerprint
    if not (folder / _DONE).is_file():
        _build(folder, layout, kept, items, fingerprint)
    return folder / "data.yaml", Scan(**json.loads((folder / _DONE).read_text(encoding="utf-8")))


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Run a block in one process at a time, by a lock file in `folder`; with `wait` false, do nothing."""
    try:
        import fcntl
    except ImportError:  # Windows
        wait = False
    if not wait:
        yield
        return
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _items(places: Iterable[Path]) -> Iterable[_Item]:
    taken: set[Path] = set()
    for number, place in enumerate(places):
        base, images = _images(place)
        for image in images:
            name = image.relative_to(base) if image.is_relative_to(base) else Path(image.name)
            name = Path(f"{number}") / name if number else name
            while name in taken:  # a list may name files of several folders
                name = name.with_name(f"_{name.name}")
            taken.add(name)
            yield _Item(image, label_of(image), name)


def _images(place: Path) -> tuple[Path, list[Path]]:
    if place.is_dir():
        return place, sorted(each_image(place))
    return place.parent.absolute(), list(each_image(place))


def each_image(place: Path) -> Iterator[Path]:
    """Images of a folder and its sub-folders, in the system's order, or of a file that lists them."""
    if place.is_dir():
        yield from (path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        return
    # Relative lines, with ./ or without, are relative to the list's folder.
    folder = place.parent.absolute()
    yield from (folder / Path(line.strip()) for line in place.read_text(encoding="utf-8").splitlines() if line.strip())


def label_of(image: Path) -> Path:
    """The label file of an image: the last `images` in its path is `labels`, as in ultralytics."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _fingerprint(layout: Layout, kept: dict[int, int], items: dict[str, list[_Item]]) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, layout.names, sorted(kept.items())]).encode())
    for split, entries in items.items():
        for item in entries:
            for path in (item.image, item.label):
                try:
                    state = path.stat()
                    mark = f"{state.st_size} {state.st_mtime_ns}"
                except OSError:
                    mark = "absent"
                digest.update(f"{split} {path.absolute()} {mark}\n".encode())
    return digest.hexdigest()[:20]


def _build(
    folder: Path, layout: Layout, kept: Mapping[int, int], items: Mapping[str, list[_Item]], fingerprint: str
) -> None:
    with whole_folder(folder, _DONE) as temporary:
        scan = Scan(fingerprint, names=[layout.names[old] for old in kept])
        faults: list[str] = []
        with ThreadPoolExecutor(8) as pool:
            for split, entries in items.items():
                counts = Counter(images=0, boxes=0, negatives=0, unlabelled=0, unreadable=0)
                readable = list(pool.map(_is_readable, [item.image for item in entries]))
                for item, good in zip(entries, readable, strict=True):
                    if not good:
                        counts["unreadable"] += 1
                        scan.skipped.append(str(item.image))
                        continue
                    lines = _read_label(item.label, len(layout.names), kept, faults)
                    counts["images"] += 1
                    counts["boxes"] += len(lines)
                    counts["negatives"] += not lines
                    counts["unlabelled"] += not item.label.is_file()
                    _link(temporary, split, item, lines)
                if not counts["images"]:
                    places = ", ".join(map(str, layout.splits[split]))
                    raise DataError(
                        f"the {split} split has no readable image in {places}"
                        + (f"; {_some(scan.skipped)} cannot be read" if scan.skipped else "")
                    )
                scan.splits[split] = dict(counts)
        if faults:
            more = f"\n    ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise DataError(
                f"{len(faults)} label line{'s are' if len(faults) > 1 else ' is'} not valid:\n    "
                + "\n    ".join(faults[:_SHOWN])
                + more
            )
        content: dict[str, object] = {"path": str(folder.absolute()), **{split: f"images/{split}" for split in items}}
        for required in ("train", "val"):  # ultralytics requires both, also to evaluate a third
            content.setdefault(required, f"images/{next(iter(items))}")
        content |= {"nc": len(scan.names), "names": dict(enumerate(scan.names))}
        (temporary / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        (temporary / _DONE).write_text(json.dumps(asdict(scan)), encoding="utf-8")


def _some(paths: Sequence[str], count: int = 5) -> str:
    """The first few of many file names."""
    return ", ".join(paths[:count]) + (f" and {len(paths) - count} more" if len(paths) > count else "")


def _link(root: Path, split: str, item: _Item, lines: list[str]) -> None:
    image = root / "images" / split / item.name
    label = (root / "labels" / split / item.name).with_suffix(".txt")
    image.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    image.symlink_to(item.image.absolute())
    if lines:
        label.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _is_readable(path: Path) -> bool:
    """Whether an image decodes to its end: ultralytics rewrites truncated JPEGs, and crashes on others."""
    try:
        with Image.open(path) as image:
            if min(image.size) < 10:  # ultralytics refuses these
                return False
            if image.format == "JPEG":
                if not _ends(path):
                    return False
                # Decoding at an eighth of the size takes an eighth of the time, and reads the whole file.
                image.draft("L", (image.width // 8, image.height // 8))
            image.load()
    except Exception:  # Pillow's decoders raise many types
        return False
    return True


def _ends(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return has_end(file.read())


def _read_label(path: Path, count: int, kept: Mapping[int, int], faults: list[str]) -> list[str]:
    """Lines of a label file for the kept classes; invalid ones go into `faults` as file:line."""
    lines = []
    for line in read_label(path, count):
        if line.fault:
            faults.append(f"{path}:{line.number}: {line.fault}")
        elif line.class_id in kept:
            lines.append(" ".join([str(kept[line.class_id]), *line.text.split()[1:]]))
    return lines


def root_of(config: Config) -> Path:
    """The dataset's folder: `dataset.root`, or the demo world, which is drawn if it is not there yet."""
    if config.dataset.root is not None:
        return Path(config.dataset.root)
    assert config.dataset.demo is not None
    from watchme.data.demo import ensure_demo_world

    world = ensure_demo_world(config.dataset.demo)
    if world.created:
        log.info("Made the demo world in %s", world.root)
    return world.detection
