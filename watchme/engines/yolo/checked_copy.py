"""The checked copy of a YOLO dataset that ultralytics trains on: links in watchme's cache folder.

ultralytics writes cache files beside the labels, rewrites truncated JPEGs in place, drops images with bad labels
silently, and cannot remap classes. So every file is checked first, and ultralytics gets a folder of links to the
images, labels of the kept classes, and a data.yaml with absolute paths. Images that OpenCV decodes differently from
`data.images` (16-bit grey, a PNG with an EXIF rotation) are converted. The user's dataset is only read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from watchme.core.errors import DataError
from watchme.core.formatting import first_few, some_of
from watchme.data.check.image_probe import has_end
from watchme.data.check.yolo_labels import read_label
from watchme.data.images import eight_bits, is_plain, open_image, read_image, reason, require_regular
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.data_yaml import Layout
from watchme.io.cache import writable_cache_dir
from watchme.io.files import read_json, whole_folder
from watchme.io.image_files import files_in, is_image, is_other_image

# Change it when the copy's content would differ for the same dataset.
_VERSION = 5
_DONE = "scan.json"
_SHOWN = 20
_LEAST_SIDE = 10  # pixels; ultralytics refuses smaller images


@dataclass
class Scan:
    """Counts and faults of a dataset."""

    # Names the copy: hash of the names, sizes and times of all files, and of the kept classes. Labels count with the
    # time of their last change (ctime), which an edit within their size cannot set back.
    key: str
    # Hash of what is trained on, the same wherever it is: classes kept, and each image's split, name below it, size in
    # bytes, and labels
    fingerprint: str = ""
    # Split -> counts of images, boxes, negatives (images without a box), unlabelled (those of them without a label
    # file) and unreadable images
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # names of the kept classes
    skipped: list[str] = field(default_factory=list)  # unreadable images, which are left out
    # Files that are images of formats that are not read, by their suffixes
    other_images: list[str] = field(default_factory=list)
    converted: int = 0  # how many images were converted to 8-bit PNG, the right way up


@dataclass(frozen=True)
class _Item:
    image: Path
    label: Path
    name: Path  # below images/<split>


def prepare(layout: Layout, classes: Sequence[int | str] | None) -> tuple[Path, Scan]:
    """Check a dataset and return the data.yaml of its copy, with absolute paths, and the counts.

    Only `classes` (ids or names) are kept; None keeps all. Unchanged files reuse the copy.

    Raises:
        DataError: If a label line is invalid (each file and line is named), or a split has no readable image.
    """
    kept = layout.kept_classes(classes)
    items = {split: list(_items(places)) for split, places in layout.splits.items()}
    others = sorted(str(path) for _, path in other_images(layout))
    key = _key(layout, kept, items, others)
    folder = writable_cache_dir() / "yolo-datasets" / key
    scan = _read_scan(folder, key)
    if scan is None:
        (folder / _DONE).unlink(missing_ok=True)  # damaged: the copy is made again
        scan = Scan(key, names=[layout.names[old] for old in kept], other_images=others)
        _build(folder, layout, kept, items, scan)
    return folder / "data.yaml", scan


def _read_scan(folder: Path, key: str) -> Scan | None:
    """What was counted when a copy was made; None where there is none, or it is damaged."""
    try:
        scan = Scan(**read_json(folder / _DONE))
    except TypeError:
        return None
    return scan if scan.key == key and (folder / "data.yaml").is_file() else None


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
    """Images of a folder and those below it, as the system lists them, or of a file that lists them.

    Raises:
        DataError: If a folder or the list cannot be read.
    """
    if place.is_dir():
        yield from filter(is_image, files_in(place))
        return
    # Relative lines, with ./ or without, are relative to the list's folder.
    folder = place.parent.absolute()
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{place} cannot be read as a list of images, one a line: {error}") from None
    yield from (folder / Path(line.strip()) for line in lines if line.strip())


def other_images(layout: Layout) -> Iterator[tuple[str, Path]]:
    """Split and file of images whose formats are not read, by their suffixes."""
    for split, places in layout.splits.items():
        for place in filter(Path.is_dir, places):
            yield from ((split, path) for path in files_in(place) if is_other_image(path))


def label_of(image: Path) -> Path:
    """The label file of an image: the last `images` in its path is `labels`, as in ultralytics."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _key(layout: Layout, kept: dict[int, int], items: dict[str, list[_Item]], others: list[str]) -> str:
    head = [_VERSION, layout.names, layout.keypoint_values, sorted(kept.items()), others]
    digest = hashlib.sha256(json.dumps(head).encode())
    for split, entries in items.items():
        for item in entries:
            for path in (item.image, item.label):
                try:
                    state = path.stat()
                    mark = f"{state.st_size} {state.st_mtime_ns}"
                    if path is item.label:
                        mark += f" {state.st_ctime_ns}"
                except OSError:
                    mark = "absent"
                digest.update(f"{split} {path.absolute()} {mark}\n".encode())
    return digest.hexdigest()[:20]


def _build(folder: Path, layout: Layout, kept: Mapping[int, int], items: Mapping[str, list[_Item]], scan: Scan) -> None:
    """Make the copy, and fill `scan` with the counts."""
    with whole_folder(folder, _DONE) as temporary:
        faults: list[str] = []
        contents: list[str] = []
        with ThreadPoolExecutor(8) as pool:
            for split, entries in items.items():
                counts = Counter(images=0, boxes=0, negatives=0, unlabelled=0, unreadable=0)
                decoded = list(pool.map(_decode, [item.image for item in entries]))
                names = {item.name for item in entries}
                for item, (fault, plain) in zip(entries, decoded, strict=True):
                    if fault:
                        counts["unreadable"] += 1
                        scan.skipped.append(f"{item.image} ({fault})")
                        continue
                    lines = _read_label(item.label, layout, kept, faults)
                    counts["images"] += 1
                    counts["boxes"] += len(lines)
                    counts["negatives"] += not lines
                    counts["unlabelled"] += not item.label.is_file()
                    scan.converted += not plain
                    _link(temporary, split, item, lines, names if not plain else None)
                    size = item.image.stat().st_size
                    contents.append(json.dumps([split, item.name.as_posix(), size, lines]))
                if not counts["images"]:
                    places = ", ".join(map(str, layout.splits[split]))
                    raise DataError(
                        f"the {split} split has no readable image in {places}"
                        + (f"; {some_of(scan.skipped)} cannot be read" if scan.skipped else "")
                    )
                scan.splits[split] = dict(counts)
        if faults:
            count = f"{len(faults)} label line{'s are' if len(faults) > 1 else ' is'} not valid"
            raise DataError(f"{count}:\n    " + "\n    ".join(first_few(faults, _SHOWN)))
        found = json.dumps([scan.names, sorted(contents)])
        scan.fingerprint = hashlib.sha256(found.encode()).hexdigest()[:20]
        content: dict[str, object] = {"path": str(folder.absolute()), **{split: f"images/{split}" for split in items}}
        for required in ("train", "val"):  # ultralytics requires both, also to evaluate a third
            content.setdefault(required, f"images/{next(iter(items))}")
        content |= {"nc": len(scan.names), "names": dict(enumerate(scan.names))}
        (temporary / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        (temporary / _DONE).write_text(json.dumps(asdict(scan)), encoding="utf-8")


def _link(root: Path, split: str, item: _Item, lines: list[str], converted_beside: set[Path] | None) -> None:
    """Put an image and its label into the copy; with the names of the split, as a PNG that none of them has."""
    name = item.name
    if converted_beside is not None:
        name = name.with_suffix(".png")
        while name != item.name and name in converted_beside:
            name = name.with_name(f"_{name.name}")
    image = root / "images" / split / name
    label = label_of(image)  # ultralytics looks there, also where a folder below the split is called `images`
    image.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    if converted_beside is None:
        image.symlink_to(item.image.absolute())
    else:
        read_image(item.image).save(image)
    if lines:
        label.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _decode(path: Path) -> tuple[str, bool]:
    """Why an image cannot be read to its end, and whether ultralytics may read the file as it is.

    A truncated JPEG would be rewritten by ultralytics, others would end in a library's traceback.
    """
    try:
        require_regular(path)
        if not is_image(path):  # a list may name it, and ultralytics would drop it
            return f"files called {path.suffix or 'without a suffix'} are not read; rename it by its content", True
        with open_image(path) as image:
            if min(image.size) < _LEAST_SIDE:
                return f"{image.width} x {image.height} pixels are too few", True
            plain = is_plain(image)
            if image.format == "JPEG":
                if not _ends(path):
                    return "the file is truncated", True
                # An eighth of the size takes an eighth of the time, and reads the file as far.
                image.draft("L", (image.width // 8, image.height // 8))
            image.load()
            eight_bits(image)
    except Exception as error:  # Pillow raises whatever its decoders raise
        return reason(error), True
    return "", plain


def _ends(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return has_end(file.read())


def _read_label(path: Path, layout: Layout, kept: Mapping[int, int], faults: list[str]) -> list[str]:
    """Lines of a label file for the classes kept; what is not valid goes into `faults` as file:line."""
    lines = []
    for line in read_label(path, len(layout.names), layout.keypoint_values):
        if line.fault:
            faults.append(f"{path}:{line.number}: {line.fault}")
        elif line.class_id in kept:
            lines.append(" ".join([str(kept[line.class_id]), *line.text.split()[1 : 1 + len(line.values)]]))
    return lines


def root_of(config: Config) -> Path:
    """The dataset's folder: `dataset.root`, or the demo world, which is drawn if it is not there yet."""
    if config.dataset.root is not None:
        return Path(config.dataset.root)
    assert config.dataset.demo is not None
    from watchme.data.demo import ensure_demo_world

    return ensure_demo_world(config.dataset.demo).detection
