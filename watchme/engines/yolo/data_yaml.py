"""The YOLO layout on disk: data.yaml, splits, class names. Standard library and yaml only, as validation uses it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from watchme.core.errors import DataError
from watchme.io.image_files import YAML_NAMES

EXPECTED = """\
expected layout:
    <root>/
      images/train/*.jpg   images/val/*.jpg   (images/test/*.jpg)
      labels/train/*.txt   labels/val/*.txt   (labels/test/*.txt)
                           one `class cx cy w h` a line, as shares of the image: 0..1
      data.yaml or dataset.yaml   (optional: path, train, val, test, nc, names)"""
_UNSPLIT = """\
for an export of Label Studio, CVAT, LabelImg or Roboflow, or images with labels beside them:
    python -m watchme.data.prepare yolo {folder} --out {out}"""
_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Layout:
    """Where the images of a dataset are."""

    root: Path  # folder of the dataset
    # `train`, `val`, and maybe `test` -> folders of images or .txt files that list them
    splits: Mapping[str, tuple[Path, ...]]
    names: tuple[str, ...]  # class names by class id
    source: Path | None = None  # its yaml; None where the standard layout was assumed
    assumed_names: bool = False  # whether no yaml names the classes, so that they are called `person`, or class_0, ..
    keypoint_values: int = 0  # numbers behind the box in labels of poses, by the yaml's `kpt_shape`; 0 without one

    def kept_classes(self, wanted: Sequence[int | str] | None) -> dict[int, int]:
        """Old class id -> new class id of the classes to keep, in the order of `wanted`.

        Raises:
            DataError: If the dataset lacks one of them.
        """
        if wanted is None:
            return {index: index for index in range(len(self.names))}
        if not wanted:
            raise DataError("dataset.classes is empty; null keeps all classes")
        kept: dict[int, int] = {}
        for item in wanted:
            if self.names.count(str(item)) > 1:
                raise DataError(f"dataset.classes names {item!r}, as two classes are called; name them by their ids")
            index = self.names.index(str(item)) if item in self.names else item
            if not isinstance(index, int) or not 0 <= index < len(self.names):
                known = ", ".join(f"{number}: {name}" for number, name in enumerate(self.names))
                raise DataError(f"dataset.classes names {item!r}; the dataset has {known}")
            kept.setdefault(index, len(kept))
        return kept


def read_layout(root: Path, required: Sequence[str] = ("train", "val")) -> Layout:
    """Read the layout of a dataset (folder or yaml), or assume the standard one with the class `person`.

    Raises:
        DataError: If a folder is missing or the yaml contradicts itself; the message shows the expected layout.
    """
    folder, source = _folder_and_yaml(root.expanduser())
    content = _read_yaml(source) if source else {}
    try:
        splits = _splits(content, source, folder, required)
    except (OSError, ValueError, RuntimeError) as error:  # a path that is too long, or of a user who is not there
        raise DataError(f"{source}: a path in it cannot be used: {error}") from None
    if lacking := [name for name in required if name not in splits]:
        hint = _prepare(folder)
        raise DataError(f"{folder} has no {' and no '.join(lacking)} images\n{EXPECTED}\n{hint}")
    if not splits:
        raise DataError(f"{folder} has no images\n{EXPECTED}\n{_prepare(folder)}")
    names = _names(content, source)
    return Layout(folder, splits, names, source, content.get("names") is None, _keypoint_values(content, source))


def _prepare(folder: Path) -> str:
    """The command that makes a split dataset of an export."""
    return _UNSPLIT.format(folder=shlex.quote(str(folder)), out=shlex.quote(f"{folder}_yolo"))


def _splits(
    content: Mapping[str, Any], source: Path | None, folder: Path, required: Sequence[str]
) -> dict[str, tuple[Path, ...]]:
    """Split -> its folders or lists, as a yaml names them, or as the standard layout has them."""
    base = _base(folder, content.get("path"))
    splits: dict[str, tuple[Path, ...]] = {}
    for name in ("train", "val", "test"):
        entry = content.get(name, content.get("validation") if name == "val" else None)
        if entry is None and (source is None or name == "test" or content.keys().isdisjoint(("train", "val"))):
            entry = f"images/{name}" if (base / "images" / name).is_dir() else None
        entries = entry if isinstance(entry, list) else [entry]
        places = tuple(_place(base, folder, str(item)) for item in entries if item is not None)
        if places and _are_there(name, places, folder, needed=name in required):
            splits[name] = places
    return splits


def _folder_and_yaml(root: Path) -> tuple[Path, Path | None]:
    """The dataset's folder and its yaml, if it has one; `root` may be either."""
    named = root if root.suffix in (".yaml", ".yml") else None
    folder = root.parent if named else root
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}\n{EXPECTED}")
    if named is not None and not named.is_file():
        raise DataError(f"no such file: {named}\n{EXPECTED}")
    return folder, named or next((folder / name for name in YAML_NAMES if (folder / name).is_file()), None)


def _are_there(name: str, places: Sequence[Path], folder: Path, *, needed: bool) -> bool:
    """Whether the images of a split are there; a `DataError` where they are needed, or no folders or lists."""
    if missing := [place for place in places if not place.exists()]:
        if not needed:
            return False
        raise DataError(f"the {name} images are missing: {missing[0]}\n{EXPECTED}\n{_prepare(folder)}")
    if strange := [place for place in places if not place.is_dir() and not place.is_file()]:
        raise DataError(f"{name}: {strange[0]} is neither a folder of images nor a file that lists them")
    return True


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # a date that there is not is a ValueError
        raise DataError(f"{path} is not valid yaml: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a mapping with train, val and names\n{EXPECTED}")
    return content


def _base(folder: Path, path: object) -> Path:
    """The folder that train and val are relative to; `path:` may be relative to the yaml or the working directory."""
    if not path:
        return folder
    given = Path(str(path)).expanduser()
    if given.is_absolute():
        return given if given.is_dir() else folder
    for candidate in (folder / given, Path.cwd() / given):
        if candidate.is_dir():
            return candidate
    # The training guide's example has path: src/dataset/yolo, the yaml's folder as seen from the backend.
    return folder


def _place(base: Path, folder: Path, entry: str) -> Path:
    """Where the images are that the yaml calls `entry`."""
    given = Path(entry).expanduser()
    if given.is_absolute():
        return given
    for candidate in (base / given, folder / given):
        if candidate.exists():
            return candidate
    # Roboflow's exports have ../train/images for a folder beside the yaml.
    trimmed = folder / entry.removeprefix("../")
    return trimmed if trimmed.exists() else base / given


def _names(content: Mapping[str, Any], source: Path | None) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(count, int) and count > _MOST_CLASSES:
        raise DataError(f"{source}: nc is {count}; at most {_MOST_CLASSES:,} classes are expected")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise DataError(f"{source}: nc must be a number of classes from 1, found {count!r}")
    if isinstance(names, Mapping):
        try:
            ordered = sorted((int(index), str(name)) for index, name in names.items())
        except (ValueError, TypeError, OverflowError):
            raise DataError(f"{source}: the keys of names must be class ids") from None
        if [index for index, _ in ordered] != list(range(len(ordered))):
            raise DataError(f"{source}: the class ids of names must run from 0 without a gap")
        listed = tuple(name for _, name in ordered)
    elif isinstance(names, list):
        listed = tuple(map(str, names))
    elif names is None:
        listed = ("person",) if count in (None, 1) else tuple(f"class_{index}" for index in range(count))
    else:
        raise DataError(f"{source}: names must be a list or a mapping of class ids to names")
    if count is not None and count != len(listed):
        raise DataError(f"{source}: nc is {count} but names has {len(listed)} entries: {', '.join(listed)}")
    return listed


def _keypoint_values(content: Mapping[str, Any], source: Path | None) -> int:
    """How many numbers of keypoints follow a box, by `kpt_shape: [points, 2 or 3]`."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(side) is int and side > 0 for side in shape):
        raise DataError(f"{source}: kpt_shape must be [number of keypoints, 2 or 3], found {shape!r}")
    return int(shape[0] * shape[1])
