"""Reader of CUHK-SYSU's test part (Xiao et al., CVPR 2017).

    <root>/Image/SSM/s1.jpg
    <root>/annotation/Images.mat                         Img: imname, box(idlocate): everybody in each image
    <root>/annotation/pool.mat                           pool: names of the test images
    <root>/annotation/test/train_test/TestG100.mat       TestG100: Query and Gallery (imname, idlocate) of each query

Boxes are x, y, width, height. Each query has a gallery of its own; it knows no cameras.
"""

from pathlib import Path
from typing import Any

import numpy as np

from watchme.core.errors import DataError
from watchme.data.person_search.search_set import UNKNOWN, Boxes, Frame, Query, SearchSet, corners, validated
from watchme.io.matlab import items, variable


def read(root: Path, gallery_size: int = 100) -> SearchSet:
    """Read the test images, and the queries with galleries of `gallery_size` images.

    Raises:
        DataError: If a file is missing or not as described above.
    """
    folder = root / "annotation"
    protocol = folder / "test" / "train_test" / f"TestG{gallery_size}.mat"
    if not protocol.is_file():
        sizes = sorted(int(path.stem[5:]) for path in protocol.parent.glob("TestG*.mat") if path.stem[5:].isdigit())
        raise DataError(
            f"no such file: {protocol}; dataset.gallery_size may be {', '.join(map(str, sizes)) or 'none there'}"
        )
    pool = [str(name) for name in items(variable(folder / "pool.mat", "pool"))]
    everybody = _everybody(folder / "Images.mat", set(pool))
    names, numbers = list(everybody), {name: number for number, name in enumerate(everybody)}
    pids = [np.full(len(boxes), UNKNOWN, np.int64) for boxes in everybody.values()]
    queries = []
    for index, entry in enumerate(items(variable(protocol, protocol.stem))):
        pid, where = index + 1, f"{protocol}, query {index + 1}"
        try:
            image, box = str(entry["Query"]["imname"]), _box(entry["Query"]["idlocate"])
            gallery = [(str(each["imname"]), _box(each["idlocate"])) for each in items(entry["Gallery"])]
        except (KeyError, TypeError, IndexError, ValueError):
            raise DataError(f"{where}: expected Query and Gallery, each with imname and idlocate") from None
        if box is None:
            raise DataError(f"{where}: it has no box")
        if strange := [name for name in (image, *(name for name, _ in gallery)) if name not in numbers]:
            raise DataError(f"{where}: {strange[0]} is not in {folder / 'pool.mat'} and Images.mat")
        for name, place in ((image, box), *gallery):
            if place is not None:
                _name(everybody[name], pids[numbers[name]], place, pid)
        x1, y1, x2, y2 = corners(box)[0].tolist()
        queries.append(Query(numbers[image], (x1, y1, x2, y2), pid, tuple(numbers[name] for name, _ in gallery)))
    frames = [
        Frame(root / "Image" / "SSM" / name, corners(everybody[name]), pids[number])
        for number, name in enumerate(names)
    ]
    return validated(SearchSet(root, "cuhk_sysu", frames, queries, small_boxes=True))


def _everybody(file: Path, pool: set[str]) -> dict[str, Boxes]:
    """Image -> (n, 4) boxes as x, y, width, height, of the test images."""
    found: dict[str, Boxes] = {}
    try:
        for image in items(variable(file, "Img")):
            if str(image["imname"]) in pool:
                boxes = [_box(person["idlocate"]) for person in items(image["box"])]
                found[str(image["imname"])] = np.array([box for box in boxes if box is not None]).reshape(-1, 4)
    except (KeyError, TypeError, IndexError, ValueError):
        raise DataError(f"{file}: expected Img with imname and box(idlocate)") from None
    if missing := sorted(pool - found.keys()):
        raise DataError(f"{file} does not hold {len(missing)} images of pool.mat, e.g. {missing[0]}")
    return found


def _box(value: Any) -> Boxes | None:
    """x, y, width, height; None where it is empty, as in gallery images without the query."""
    box = np.asarray(value, np.float64).ravel()
    if not box.size:
        return None
    if box.size != 4:
        raise ValueError(box)
    return box if box[2] > 0 and box[3] > 0 else None


def _name(boxes: Boxes, pids: np.ndarray[Any, np.dtype[np.int64]], box: Boxes, pid: int) -> None:
    """Give the person at a box their identity."""
    for place in np.flatnonzero((boxes == box).all(axis=1)):
        pids[place] = pid
        return
