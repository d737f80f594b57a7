"""Sequences of MOTChallenge (MOT15 to MOT20, and sets in their format): tracks are identities, sequences cameras.

    <root>/<sequence>/gt/gt.txt      frame, identity, x, y, width, height, counts, class, visibility; from 1
    <root>/<sequence>/img1/000001.jpg
    <root>/<sequence>/seqinfo.ini    frameRate, imDir, imExt

An identity belongs to its sequence unless `shared_ids` says that numbers are the same in all. MOT17's gt lies there
three times, once for each public detector; it is read once.
"""

import configparser
from pathlib import Path

import numpy as np

from watchme.core.errors import DataError
from watchme.data.person_search import sequence_files
from watchme.data.person_search.search_set import Frame, SearchSet, checked, choose_queries, corners

_PEDESTRIAN = 1
# Of MOT16 and later: on a vehicle, static person, distractor, reflection. Its own evaluation ignores them, too.
_PERSON_LIKE = (2, 7, 8, 12)
_DETECTORS = ("-DPM", "-FRCNN", "-SDP")


def read(root: Path, *, frame_step: int | None, min_visibility: float, shared_ids: bool) -> SearchSet:
    """Read all sequences below `root`. See `read_search_set`.

    Raises:
        DataError: If a line of a gt.txt is not as described above, or frames are missing.
    """
    assumed: list[str] = []
    frames: list[Frame] = []
    names: dict[int, str] = {}
    for camera, file in enumerate(_without_copies(sequence_files(root), assumed), 1):
        frames += _sequence(file, camera, frame_step, min_visibility, shared_ids, names, assumed)
    return checked(SearchSet(root, "mot", frames, choose_queries(frames), names=names, assumed=tuple(assumed)))


def _without_copies(files: list[Path], assumed: list[str]) -> list[Path]:
    kept: dict[str, Path] = {}
    for file in files:
        name = file.parent.parent.name
        for ending in _DETECTORS:
            name = name.removesuffix(ending)
        kept.setdefault(name, file)
    if len(kept) < len(files):
        used = ", ".join(file.parent.parent.name for file in kept.values())
        assumed.append(f"{len(files) - len(kept)} sequences are copies of another one's frames; used are {used}")
    return list(kept.values())


def _sequence(
    file: Path,
    camera: int,
    frame_step: int | None,
    min_visibility: float,
    shared_ids: bool,
    names: dict[int, str],
    assumed: list[str],
) -> list[Frame]:
    folder = file.parent.parent
    info = configparser.ConfigParser()
    info.read(folder / "seqinfo.ini", encoding="utf-8")
    section = info["Sequence"] if info.has_section("Sequence") else {}
    if frame_step is None and "frameRate" not in section:
        assumed.append(f"{folder.name} has no seqinfo.ini with a frameRate: 25 frames a second are assumed")
    step = frame_step or max(1, round(float(section.get("frameRate", 25))))
    images = {
        int(path.stem): path
        for path in sorted((folder / section.get("imDir", "img1")).glob("*.*"))
        if path.stem.isdigit()
    }
    if not images:
        raise DataError(f"{folder} has no frames in {folder / section.get('imDir', 'img1')}")
    rows = _rows(file)
    found = []
    for number in sorted(images)[::step]:
        own = rows[rows[:, 0] == number]
        kind = own[:, 7]
        person = np.isin(kind, (_PEDESTRIAN, -1))
        counted = person & (own[:, 6] != 0) & (own[:, 8] >= min_visibility)
        ignored = ~counted & (person | np.isin(kind, _PERSON_LIKE))
        boxes = corners(own[:, 2:6])
        boxes[:] -= 1  # the first pixel is number 1
        pids = own[:, 1].astype(np.int64)
        if not shared_ids:
            for pid in pids[counted]:
                names[int(pid) + camera * 1_000_000] = f"{folder.name}/{pid}"
            pids = pids + camera * 1_000_000
        found.append(Frame(images[number], boxes[counted], pids[counted], camera, boxes[ignored]))
    return found


def _rows(file: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(n, 9) rows; MOT15 has no class (-1 here) and no visibility (1 here)."""
    rows = []
    for line_number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        cells = line.split(",")
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            values = []
        if len(values) < 7 or values[4] <= 0 or values[5] <= 0 or not np.isfinite(values).all():
            raise DataError(
                f"{file}, line {line_number}: expected frame, identity, x, y, width, height, counts, class, "
                f"visibility; found {line[:60]!r}"
            )
        # Rows of MOT15 end in a place in the world: x, y, z.
        rows.append(values if len(values) == 9 else [*values[:7], -1.0, 1.0])
    return np.array(rows, np.float64).reshape(-1, 9)
