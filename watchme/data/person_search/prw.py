"""Reader of PRW's test part (Person Re-identification in the Wild, Zheng et al., CVPR 2017).

    <root>/frames/c1s1_000151.jpg
    <root>/annotations/c1s1_000151.jpg.mat    rows of identity, x, y, width, height; identity -2: nobody knows who
    <root>/frame_test.mat                     img_index_test: names of the test frames
    <root>/query_info.txt                     lines of identity, x, y, width, height, frame

A query is looked for in all other test frames, or by option in those of other cameras.
"""

import re
from pathlib import Path

import numpy as np

from watchme.core.errors import DataError
from watchme.data.person_search.search_set import UNKNOWN, Frame, Query, SearchSet, corners, validated
from watchme.io.matlab import items, variable

_CAMERA = re.compile(r"^c(\d+)s\d+_")


def read(root: Path) -> SearchSet:
    """Read the test frames and queries below `root`.

    Raises:
        DataError: If a file is missing or not as described above.
    """
    listed = variable(root / "frame_test.mat", "img_index_test")
    names = [str(name).strip().removesuffix(".jpg") for name in items(listed)]
    frames = [_frame(root, name) for name in names]
    numbers = {name: number for number, name in enumerate(names)}
    return validated(SearchSet(root, "prw", frames, _queries(root / "query_info.txt", numbers), small_boxes=True))


def _frame(root: Path, name: str) -> Frame:
    file = root / "annotations" / f"{name}.jpg.mat"
    rows = np.asarray(variable(file, "box_new", "anno_file", "anno_previous"), np.float64)
    if rows.size % 5:
        raise DataError(f"{file}: expected rows of identity, x, y, width, height; found shape {rows.shape}")
    rows = rows.reshape(-1, 5)
    rows = rows[(rows[:, 3] > 0) & (rows[:, 4] > 0)]
    pids = np.where(rows[:, 0] > 0, rows[:, 0], UNKNOWN).astype(np.int64)
    match = _CAMERA.match(name)
    if match is None:
        raise DataError(f"{root / 'frame_test.mat'}: expected names as c1s1_000151, found {name!r}")
    return Frame(root / "frames" / f"{name}.jpg", corners(rows[:, 1:]), pids, int(match[1]))


def _queries(file: Path, numbers: dict[str, int]) -> list[Query]:
    if not file.is_file():
        raise DataError(f"no such file: {file}")
    queries = []
    for line_number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            pid, x, y, width, height, name = line.split()
            frame = numbers[name.removesuffix(".jpg")]
            left, top = float(x), float(y)
            queries.append(Query(frame, (left, top, left + float(width), top + float(height)), int(pid)))
        except KeyError:
            raise DataError(f"{file}, line {line_number}: {name} is not among the test frames") from None
        except ValueError:
            raise DataError(
                f"{file}, line {line_number}: expected identity, x, y, width, height and frame, found {line!r}"
            ) from None
    return queries
