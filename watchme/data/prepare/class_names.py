"""Class names in the exports of labelling tools: data.yaml, obj.names, classes.txt."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from watchme.core.errors import DataError
from watchme.io.image_files import YAML_NAMES

_MENU = "predefined_classes.txt"  # what LabelImg offers, which is not always what it wrote


def names_in(files: Iterable[Path]) -> list[str]:
    """Class names by id, as the files of an export say that have them; may be empty.

    Raises:
        DataError: If a file cannot be read, or two of them give one id to different classes.
    """
    named = {path: names for path in sorted(files, key=lambda path: len(path.parts)) if (names := _names_in(path))}
    named = {path: names for path, names in named.items() if path.name != _MENU} or named
    if not named:
        return []
    longest = max(named, key=lambda path: len(named[path]))
    for path, names in named.items():
        if names != named[longest][: len(names)]:
            raise DataError(
                f"{longest} and {path} give one class id to different classes: {', '.join(named[longest][:5])}; "
                f"{', '.join(names[:5])}\n    Convert each folder on its own, or say what holds for all by --names"
            )
    return named[longest]


def _names_in(path: Path) -> list[str]:
    """The class names of one file of an export; empty if it is no file of names."""
    if path.name in YAML_NAMES:
        return _yaml_names(path)
    if path.name not in ("obj.names", "classes.txt", _MENU):
        return []
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    names = [line.strip() for line in text.rstrip().splitlines()]
    if "" in names:  # tools differ in whether it counts, so that later ids would be another class's
        raise DataError(f"{path}: line {names.index('') + 1} is empty; delete it, or say the names by --names")
    return names


def _yaml_of(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as yaml: {error}") from None
    return content if isinstance(content, Mapping) else {}


def _yaml_names(path: Path) -> list[str]:
    names = _yaml_of(path).get("names")
    if isinstance(names, Mapping):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise DataError(f"{path}: the class ids of names must run from 0 without a gap")
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    return [str(name) for name in names] if isinstance(names, list) else []


def keypoint_values(files: Iterable[Path]) -> int:
    """Numbers of keypoints behind a box, by `kpt_shape` of the least deep yaml that has it."""
    for path in sorted(files, key=lambda path: len(path.parts)):
        if path.name in YAML_NAMES and isinstance(shape := _yaml_of(path).get("kpt_shape"), list) and len(shape) == 2:
            return int(shape[0]) * int(shape[1]) if all(type(side) is int for side in shape) else 0
    return 0


def people_of(names: Sequence[str], categories: set[str]) -> set[int]:
    """Ids of the classes that are people; a `DataError` where there are none."""
    if not names:
        raise DataError(
            "the class names are not known: there is no data.yaml, obj.names or classes.txt; say --names, e.g. "
            "--names person"
        )
    found = {number for number, name in enumerate(names) if name.strip().casefold() in categories}
    if not found:
        raise DataError(f"no class is a person: {', '.join(names[:20])}\n    --category NAME says who is")
    return found
