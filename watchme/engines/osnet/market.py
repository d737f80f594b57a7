"""Datasets in the naming of Market-1501. Standard library only: validation uses it.

    0001_c1s1_000151_01.jpg = identity 1, camera 1, sequence 1, frame 151, box 1

Identity -1 is junk and left out; 0000 are distractors: they are in the gallery only, and match nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from watchme.errors import DataError

EXPECTED = """\
expected layout:
    <root>/
      bounding_box_train/0001_c1s1_000151_01.jpg   identity_cCAMERAsSEQUENCE_frame_box
      query/0001_c1s1_001051_00.jpg
      bounding_box_test/0001_c2s1_001976_01.jpg
  or torchreid's <root>/market1501/Market-1501-v15.09.15/ with the same three folders"""
_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_NESTED = ("", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "market1501")
_NAME = re.compile(r"^(-?\d+)_c(\d+)")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


@dataclass(frozen=True)
class Crop:
    """One image of one person: its file, identity and camera."""

    path: Path
    pid: int
    cam: int


@dataclass(frozen=True)
class Splits:
    """Train, query and gallery of a dataset, each sorted by file name."""

    root: Path
    train: Sequence[Crop]
    query: Sequence[Crop]
    gallery: Sequence[Crop]


def find_root(root: Path) -> Path:
    """The folder that holds `bounding_box_train`, in `root` or where torchreid puts it.

    Raises:
        DataError: If it is not there; the message shows the expected layout.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DataError(f"no such folder: {root}\n{EXPECTED}")
    for nested in _NESTED:
        if (root / nested / _FOLDERS[0]).is_dir():
            missing = [name for name in _FOLDERS if not (root / nested / name).is_dir()]
            if missing:
                raise DataError(f"{root / nested} has no {' and no '.join(missing)}\n{EXPECTED}")
            return root / nested
    raise DataError(f"{root} has no bounding_box_train\n{EXPECTED}")


def read_market(root: Path) -> Splits:
    """Read a dataset in Market-1501 naming.

    Raises:
        DataError: If folders are missing or empty, names do not parse, or a query has nothing to be found.
    """
    base = find_root(root)
    train = [crop for crop in _read(base / _FOLDERS[0]) if crop.pid > 0]
    query = [crop for crop in _read(base / _FOLDERS[1]) if crop.pid > 0]
    gallery = [crop for crop in _read(base / _FOLDERS[2]) if crop.pid >= 0]
    if len({crop.pid for crop in train}) < 2:
        raise DataError(f"{base / _FOLDERS[0]} has fewer than two identities")
    cams: dict[int, set[int]] = {}
    for crop in gallery:
        cams.setdefault(crop.pid, set()).add(crop.cam)
    if not any(cams.get(crop.pid, set()) - {crop.cam} for crop in query):
        raise DataError(f"no query of {base} has a gallery image of its identity from another camera")
    return Splits(base, train, query, gallery)


def _read(folder: Path) -> list[Crop]:
    crops, strange = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        match = _NAME.match(path.name)
        if match is None:
            strange.append(path.name)
        elif int(match[1]) != -1:
            crops.append(Crop(path, int(match[1]), int(match[2]) - 1))
    if strange:
        raise DataError(
            f"{len(strange)} files of {folder} are not named as identity_cCAMERA..., e.g. {strange[0]}\n{EXPECTED}"
        )
    if not crops:
        raise DataError(f"{folder} holds no images\n{EXPECTED}")
    return crops
