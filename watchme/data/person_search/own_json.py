"""Reader of watchme's own person-search format: one json file.

    {"images": "frames",                                    folder of the images, relative to the file; default "."
     "frames": [{"image": "c1_000001.jpg", "camera": 1,
                 "people": [{"id": 7, "box": [x1, y1, x2, y2]}, {"box": [...]}],     without id: nobody knows who
                 "ignored": [[x1, y1, x2, y2]]}],                                    neither right nor wrong
     "queries": [{"image": "c1_000001.jpg", "id": 7, "box": [...], "gallery": ["c2_000001.jpg"]}]}

`camera`, `ignored`, `queries` and `gallery` may be left out: then a query is chosen of each identity and camera, and
is looked for in all other frames.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from watchme.core.errors import DataError
from watchme.data.person_search.search_set import UNKNOWN, Boxes, Frame, Query, SearchSet, choose_queries, validated

_MOST = 2**63 - 1  # what an array of identities holds


def read(file: Path) -> SearchSet:
    """Read such a file.

    Raises:
        DataError: If it is not as described above; the message names the place, e.g. frames[3].people[0].box.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as json: {error}") from None
    place = _Place(file)
    folder = file.parent / str(place.mapping(content, "the file").get("images", "."))
    frames = [
        _frame(place, entry, f"frames[{number}]", folder)
        for number, entry in enumerate(place.items(content.get("frames"), "frames"))
    ]
    names = [frame.path.relative_to(folder) if frame.path.is_relative_to(folder) else frame.path for frame in frames]
    numbers = {name.as_posix(): number for number, name in enumerate(names)}
    if len(numbers) < len(frames):
        raise DataError(f"{file}: {len(frames) - len(numbers)} frames name an image that another frame names, too")
    if content.get("queries") is None:
        queries = choose_queries(frames)
    else:
        queries = [
            _query(place, entry, f"queries[{number}]", numbers)
            for number, entry in enumerate(place.items(content["queries"], "queries"))
        ]
    return validated(SearchSet(file, "json", frames, queries))


class _Place:
    """Says in which file and at which place something is not as it must be."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def wrong(self, where: str, expected: str, found: Any) -> DataError:
        text = repr(found)
        return DataError(f"{self.file}: {where}: expected {expected}, found {text[:60]}{'...' * (len(text) > 60)}")

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(where, "an object", value)
        return value

    def items(self, value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.wrong(where, "a list", value)
        return value

    def box(self, value: Any, where: str) -> tuple[float, float, float, float]:
        numbers = [each for each in self.items(value, where) if isinstance(each, (int, float))]
        fits = len(numbers) == len(value) == 4 and numbers[0] < numbers[2] and numbers[1] < numbers[3]
        if not fits or not np.isfinite(numbers).all():
            raise self.wrong(where, "x1, y1, x2, y2 in pixels with x1 < x2 and y1 < y2", value)
        return float(numbers[0]), float(numbers[1]), float(numbers[2]), float(numbers[3])

    def identity(self, value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
            raise self.wrong(where, "an identity: a whole number from 1", value)
        return value

    def boxes(self, values: list[Any], where: str) -> Boxes:
        found = [self.box(value, f"{where}[{number}]") for number, value in enumerate(values)]
        return np.array(found, np.float64).reshape(-1, 4)


def _frame(place: _Place, entry: Any, where: str, folder: Path) -> Frame:
    entry = place.mapping(entry, where)
    name = entry.get("image")
    if not isinstance(name, str) or not name:
        raise place.wrong(f"{where}.image", "the name of an image", name)
    camera = entry.get("camera")
    if camera is not None and (not isinstance(camera, int) or isinstance(camera, bool)):
        raise place.wrong(f"{where}.camera", "a whole number", camera)
    boxes, pids = [], []
    for number, person in enumerate(place.items(entry.get("people", []), f"{where}.people")):
        spot = f"{where}.people[{number}]"
        person = place.mapping(person, spot)
        boxes.append(place.box(person.get("box"), f"{spot}.box"))
        known = person.get("id") is not None
        pids.append(place.identity(person["id"], f"{spot}.id") if known else UNKNOWN)
    ignored = place.boxes(place.items(entry.get("ignored", []), f"{where}.ignored"), f"{where}.ignored")
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return Frame(folder / name, array, np.array(pids, np.int64), camera, ignored)


def _query(place: _Place, entry: Any, where: str, numbers: dict[str, int]) -> Query:
    entry = place.mapping(entry, where)

    def number_of(name: Any, spot: str) -> int:
        if not isinstance(name, str) or name not in numbers:
            raise place.wrong(spot, "the image of one of the frames", name)
        return numbers[name]

    gallery = entry.get("gallery")
    if gallery is not None:
        spots = enumerate(place.items(gallery, f"{where}.gallery"))
        gallery = tuple(number_of(name, f"{where}.gallery[{spot}]") for spot, name in spots)
    return Query(
        number_of(entry.get("image"), f"{where}.image"),
        place.box(entry.get("box"), f"{where}.box"),
        place.identity(entry.get("id"), f"{where}.id"),
        gallery,
    )
