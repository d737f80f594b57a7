"""Images of people with names of their own: a pattern, folders or a CSV say who is in them. Standard library only.

    pattern    of an image's path below the folder: a template such as {id}_{camera}_{*} or {id}/{tracklet}/{*}, or a
               regular expression with the groups id, camera, tracklet; without a camera all are of one
    CSV        a header path,id[,camera[,tracklet[,split]]]; split is train, test, query or gallery

Identities and cameras may be any text, and are numbered; of those that are numbers 7 and 0007 are the same.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from watchme.core.errors import DataError
from watchme.data.bad_records import inside
from watchme.io.image_files import files_in, is_image, is_other_image

SPLITS = ("train", "test", "query", "gallery")
_PLACEHOLDERS = ("{id}", "{camera}", "{tracklet}")
Fault = Callable[[object, str], None]
"""Takes a file, or the place of a record, and what is wrong with it."""


@dataclass(frozen=True)
class View:
    """An image of a person."""

    path: Path  # the file
    identity: str  # who it is
    camera: str = "1"  # which camera took it
    tracklet: str = ""  # which images of this person and camera belong together; empty: it stands alone
    split: str = ""  # train, test, query or gallery; empty where that is not said


Sighting = Sequence[View]
"""One image, or all images of a tracklet."""


class Pattern(NamedTuple):
    """A rule by which paths say who is in an image."""

    text: str  # as it was given, with the name of its option or key, for messages
    rule: re.Pattern[str]  # what is searched in a path; it has a group `id`, and maybe `camera` and `tracklet`


def compiled(pattern: str, called: str = "dataset.pattern") -> Pattern:
    """The regular expression of a template, or the one that is given.

    Args:
        pattern: Template or regular expression.
        called: Its option or key, for messages.

    Raises:
        DataError: If it is none, or says no identity.
    """
    said, text = f"{called} {pattern}", pattern
    if "(?P<id>" not in pattern:
        if "{id}" not in pattern:
            raise DataError(f"{said}: expected {{id}} in it, e.g. '{{id}}_{{camera}}_{{*}}'")
        if twice := [name for name in _PLACEHOLDERS if pattern.count(name) > 1]:
            raise DataError(f"{said}: {twice[0]} stands there twice")
        if unknown := re.findall(r"\{(?!id\}|camera\}|tracklet\}|\*\})[^}]*\}?", pattern):
            raise DataError(f"{said}: {unknown[0]} is none of {', '.join(_PLACEHOLDERS)}, {{*}}")
        pieces = re.split(r"(\{(?:id|camera|tracklet|\*)\})", pattern)
        # A name ends where the template goes on: at its separators, at folders, and at the suffix.
        ends = {"/", ".", *(letter for piece in pieces[::2] for letter in piece if not letter.isalnum())}
        word = f"[^{re.escape(''.join(sorted(ends)))}]+"
        named = {name: rf"(?P<{name[1:-1]}>{word})" for name in _PLACEHOLDERS} | {"{*}": r"[^/]*?"}
        text = r"(?:^|/)" + "".join(named.get(piece, re.escape(piece)) for piece in pieces)
        text += "$" if re.search(r"\.\w+$", pattern) else r"(?:\.\w+)?$"
    try:
        return Pattern(said, re.compile(text))
    except re.error as error:
        raise DataError(f"{said} is not a regular expression: {error}") from None


def is_list(path: Path) -> bool:
    """Whether a path is a CSV of images."""
    return path.suffix.lower() == ".csv" and path.expanduser().is_file()


def views_of_folder(folder: Path, pattern: Pattern, fault: Fault, left_out: Callable[[Path], None]) -> Iterator[View]:
    """The images below a folder, in the order of their paths.

    Args:
        folder: The folder.
        pattern: See `compiled`.
        fault: Gets each image whose path does not match.
        left_out: Gets each image of a format that is not read.

    Raises:
        DataError: If the folder cannot be listed.
    """
    for path in sorted(files_in(folder)):
        if is_other_image(path):
            left_out(path)
        if not is_image(path):
            continue
        name = path.relative_to(folder).as_posix()
        if (match := pattern.rule.search(name)) is None:
            fault(path, f"its path {name} does not match {pattern.text}")
            continue
        said = match.groupdict()
        yield View(path, match["id"], said.get("camera") or "1", said.get("tracklet") or "")


def views_of_list(path: Path, text: str, fault: Fault) -> Iterator[View]:
    """The images that a CSV names, in its order.

    Args:
        path: The file; paths in it are relative to its folder.
        text: Its content.
        fault: Gets each row that cannot be used.

    Raises:
        DataError: If it has no header with path and id.
    """
    rows = csv.reader(io.StringIO(text.replace("\0", "")))
    try:
        columns = [name.strip().casefold() for name in next(rows, [])]
        if not {"path", "id"} <= set(columns):
            raise DataError(
                f"{path}: a header path,id[,camera[,tracklet[,split]]] was expected, found {','.join(columns)[:80]}"
            )
        if twice := [name for place, name in enumerate(columns) if name and name in columns[:place]]:
            raise DataError(f"{path}: the header has the column {twice[0]} twice")
        for row in rows:
            if any(cell.strip() for cell in row):
                cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
                yield from _view(path.parent, cells, lambda what: fault(f"{path}:{rows.line_num}", what))
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num} is no CSV: {error}") from None


def _view(folder: Path, cells: Mapping[str, str], fault: Callable[[str], None]) -> Iterator[View]:
    image, split = Path(cells["path"]), cells.get("split", "").casefold()
    try:
        if not image.is_absolute():
            image = folder / inside(cells["path"])
    except ValueError as error:
        return fault(str(error))
    if not cells.get("id"):
        return fault("it has no id")
    if split not in ("", *SPLITS):
        return fault(f"the split is {split}; {', '.join(SPLITS)} were expected")
    if not is_image(image):
        return fault(f"{image.name} is no image that is read")
    if not image.is_file():
        return fault(f"{image} cannot be read as an image: No such file")
    yield View(image, cells["id"], cells.get("camera") or "1", cells.get("tracklet", ""), split)


def numbers(names: Iterable[str]) -> dict[str, int]:
    """A number from 1 for each name, those that are numbers first and in their order; 7 and 0007 share one."""
    values = {name: (name.lstrip("0") or "0") if name.isdecimal() else name for name in names}
    order = sorted(set(values.values()), key=lambda text: (0, len(text), text) if text.isdecimal() else (1, 0, text))
    places = {text: number for number, text in enumerate(order, 1)}
    return {name: places[text] for name, text in sorted(values.items(), key=lambda item: (places[item[1]], item[0]))}


def divided(own: Sequence[Sighting]) -> tuple[list[Sighting], list[Sighting], bool]:
    """Queries and gallery of a test identity, and whether a single camera saw it.

    A query of each camera, and the rest in the gallery. Seen by a single camera: the first sighting as the query, the
    last third as the gallery, which is to count as another camera's; what is between them is in neither. Both are
    empty where there is one sighting.

    Args:
        own: Its images or tracklets, of each camera in the order of time.
    """
    if len({one[0].camera for one in own}) > 1:
        first: dict[str, Sighting] = {}
        for one in own:
            first.setdefault(one[0].camera, one)
        queries = list(first.values())
        return queries, [one for one in own if not any(one is query for query in queries)], False
    return (list(own[:1]), list(own[-max(1, len(own) // 3) :]), True) if len(own) > 1 else ([], [], True)


def sightings(views: Iterable[View]) -> list[list[View]]:
    """Images as they belong together: those of a tracklet, and each other one alone; in the order of their paths."""
    found: dict[tuple[str, ...], list[View]] = defaultdict(list)
    for view in views:
        alone = "" if view.tracklet else str(view.path)
        found[view.identity, view.camera, view.split, view.tracklet, alone].append(view)
    return sorted(
        (sorted(own, key=lambda view: view.path) for own in found.values()),
        key=lambda own: (own[0].camera, own[0].path),
    )


def text_of(path: Path) -> str:
    """A CSV's content.

    Raises:
        DataError: If it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a CSV in UTF-8: {error}") from None
