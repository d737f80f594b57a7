"""Datasets in the naming of Market-1501. Standard library only: validation uses it.

    0001_c1s1_000151_01.jpg = identity 1, camera 1, sequence 1, frame 151, box 1

Identity -1 is junk and left out; 0000 are distractors: they are in the gallery only, and match nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from watchme.core.errors import DataError

EXPECTED = """\
expected layout:
    <root>/
      bounding_box_train/0001_c1s1_000151_01.jpg   identity_cCAMERAsSEQUENCE_frame_box
      query/0001_c1s1_001051_00.jpg
      bounding_box_test/0001_c2s1_001976_01.jpg
  or torchreid's <root>/market1501/Market-1501-v15.09.15/ with the same three folders"""
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_NESTED = ("", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "market1501")
_NAME = re.compile(r"^(-?\d+)_c(\d+)(?:s(\d+))?")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


@dataclass(frozen=True)
class Crop:
    """One image of one person, or one tracklet: the images that one camera took of a person in a row.

    Attributes:
        path: The image; the first one of a tracklet.
        pid: Identity, from 1; 0 is a distractor's.
        cam: Camera, from 0.
        dataset: Number of the dataset among several sources.
        frames: All images of a tracklet in order of time; empty for a single image.
    """

    path: Path
    pid: int
    cam: int
    dataset: int = 0
    frames: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, or all those of the tracklet."""
        return self.frames or (self.path,)


@dataclass(frozen=True)
class Splits:
    """Train, query and gallery of a dataset, each sorted by file name. One identity has one number in all three."""

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
        if (root / nested / FOLDERS[0]).is_dir():
            missing = [name for name in FOLDERS if not (root / nested / name).is_dir()]
            if missing:
                raise DataError(f"{root / nested} has no {' and no '.join(missing)}\n{EXPECTED}")
            return root / nested
    raise DataError(f"{root} has no bounding_box_train\n{EXPECTED}")


def read_market(root: Path, *, more_distractors: bool = False, tracklets: bool = False) -> Splits:
    """Read a dataset in Market-1501 naming.

    Args:
        root: Where `find_root` finds it.
        more_distractors: Add the folder `images` to the gallery, Market-1501's 500,000 further distractors.
        tracklets: Group the images of an identity by camera and sequence (`c1s1`) into tracklets.

    Raises:
        DataError: If folders are missing or empty, names do not parse, or a query has nothing to be found.
    """
    base = find_root(root)
    train = [crop for crop in _read(base / FOLDERS[0], tracklets=tracklets) if crop.pid > 0]
    query = [crop for crop in _read(base / FOLDERS[1], tracklets=tracklets) if crop.pid > 0]
    gallery = [crop for crop in _read(base / FOLDERS[2], tracklets=tracklets) if crop.pid >= 0]
    if more_distractors:
        gallery += _read(extra_gallery(base), tracklets=tracklets)
    splits = Splits(base, train, query, gallery)
    check_train(splits)
    check_queries(splits)
    return splits


def parse(path: Path) -> Crop | None:
    """What a file's name says; None where it is no image, or breaks the convention."""
    match = _NAME.match(path.name) if path.suffix.lower() in SUFFIXES else None
    return None if match is None else Crop(path, int(match[1]), int(match[2]) - 1)


def extra_gallery(base: Path) -> Path:
    """The folder of Market-1501's 500,000 further distractors.

    Raises:
        DataError: If it is not there.
    """
    folder = base / "images"
    if not folder.is_dir():
        raise DataError(f"dataset.market1501_500k: the 500,000 distractors are expected in {folder}")
    return folder


def check_train(splits: Splits) -> None:
    """Raise a DataError if there are fewer than two identities to train on."""
    if len({crop.pid for crop in splits.train}) < 2:
        folder = splits.train[0].path.parent if splits.train else splits.root
        raise DataError(f"the training set in {folder} has fewer than two identities")


def check_queries(splits: Splits) -> None:
    """Raise a DataError if no query can be found in the gallery."""
    cams: dict[int, set[int]] = {}
    for crop in splits.gallery:
        cams.setdefault(crop.pid, set()).add(crop.cam)
    if not any(cams.get(crop.pid, set()) - {crop.cam} for crop in splits.query):
        raise DataError(f"no query of {splits.root} has a gallery image of its identity from another camera")


def _read(folder: Path, *, tracklets: bool) -> list[Crop]:
    crops: list[Crop] = []
    strange = []
    runs: dict[tuple[int, int, int], list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        match = _NAME.match(path.name)
        if match is None:
            strange.append(path.name)
            continue
        pid, cam = int(match[1]), int(match[2]) - 1
        if pid == -1:
            continue
        if not tracklets:
            crops.append(Crop(path, pid, cam))
        elif pid == 0:
            crops.append(Crop(path, pid, cam, frames=(path,)))  # distractors are not one person
        else:
            runs.setdefault((pid, cam, int(match[3] or 0)), []).append(path)
    if strange:
        raise DataError(
            f"{len(strange)} files of {folder} are not named as identity_cCAMERA..., e.g. {strange[0]}\n{EXPECTED}"
        )
    crops += [Crop(paths[0], pid, cam, frames=tuple(paths)) for (pid, cam, _), paths in runs.items()]
    if not crops:
        raise DataError(f"{folder} holds no images\n{EXPECTED}")
    return sorted(crops, key=lambda crop: crop.path)
