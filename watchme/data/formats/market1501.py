"""Reader of re-ID datasets in Market-1501 naming; standard library only, as validation uses it.

    0001_c1s1_000151_01.jpg = identity 1, camera 1, sequence 1, frame 151, box 1

Identity -1 is junk and left out; 0000 are distractors: they are in the gallery only, and match nothing. Where people
are numbered from 0, `first_id=0` reads 0000 as a person.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from watchme.core.errors import DataError
from watchme.io.image_files import files_in, is_image, is_other_image

EXPECTED = """\
expected layout:
    <root>/
      bounding_box_train/0001_c1s1_000151_01.jpg   identity_cCAMERAsSEQUENCE_frame_box
      query/0001_c1s1_001051_00.jpg
      bounding_box_test/0001_c2s1_001976_01.jpg
  or torchreid's <root>/market1501/Market-1501-v15.09.15/ with the same three folders"""
_OTHERWISE = """\
  or names of your own: 'dataset.pattern="{{id}}_{{camera}}_{{*}}"', '"{{id}}/{{*}}"' for folders of identities,
  dataset.root=<list>.csv; with a test split: python -m watchme.data.prepare reid {root} --out {out}"""
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_NESTED = ("", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "market1501")
ROLES = ("train", "query", "gallery")
WITHOUT_TEST = "'dataset.targets=[]'; to test on another dataset: dataset.targets"
# No more digits than 64 bits hold.
_NAME = re.compile(r"^(-?\d{1,18})_c(\d{1,9})(?:s(\d{1,9}))?(?!\d)")


@dataclass(frozen=True)
class Crop:
    """One image of one person, or one tracklet: the images that one camera took of a person in a row."""

    path: Path  # the image; the first one of a tracklet
    pid: int  # identity, from 1; 0 is a distractor's
    cam: int  # camera, from 0
    dataset: int = 0  # number of the dataset among several sources
    frames: tuple[Path, ...] = ()  # all images of a tracklet in order of time; empty for a single image

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, or all those of the tracklet."""
        return self.frames or (self.path,)


class LeftOut(NamedTuple):
    """An image that is not used: of a format that is not read, or of an identity that counts as nobody."""

    role: str
    path: Path
    pid: int | None


@dataclass(frozen=True)
class Splits:
    """Train, query and gallery of a dataset, each sorted by file name. One identity has one number in all three.

    `left_out` has the images that one may miss: not junk (-1), nor distractors in the gallery.
    """

    root: Path
    train: Sequence[Crop]
    query: Sequence[Crop]
    gallery: Sequence[Crop]
    left_out: Sequence[LeftOut] = ()


def find_root(root: Path, roles: Sequence[str] = ROLES) -> Path:
    """The folder that holds the folders of `roles`, in `root` or where torchreid puts it.

    Raises:
        DataError: If it is not there; the message shows the expected layout.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DataError(f"no such folder: {root}\n{EXPECTED}")
    wanted = {role: folder for role, folder in zip(ROLES, FOLDERS, strict=True) if role in roles}
    for nested in _NESTED:
        if any((root / nested / name).is_dir() for name in wanted.values()):
            missing = [name for name in wanted.values() if not (root / nested / name).is_dir()]
            if missing:
                hint = f"to train on it without a test: {WITHOUT_TEST}\n" if FOLDERS[0] not in missing else ""
                raise DataError(f"{root / nested} has no {' and no '.join(missing)}\n{hint}{EXPECTED}")
            return root / nested
    raise DataError(f"{root} has no {next(iter(wanted.values()))}\n{EXPECTED}\n{_otherwise(root)}")


def _otherwise(root: Path) -> str:
    return _OTHERWISE.format(root=shlex.quote(str(root)), out=shlex.quote(f"{root}_reid"))


def is_train_only(root: Path) -> bool:
    """Whether a folder has a training set, and neither queries nor a gallery."""
    root = root.expanduser()
    base = next((root / nested for nested in _NESTED if (root / nested / FOLDERS[0]).is_dir()), None)
    return base is not None and not any((base / name).exists() for name in FOLDERS[1:])


def read_market(
    root: Path,
    roles: Sequence[str] = ROLES,
    *,
    more_distractors: bool = False,
    tracklets: bool = False,
    first_id: int = 1,
) -> Splits:
    """Read a dataset in Market-1501 naming.

    Args:
        root: Where `find_root` finds it.
        roles: What is read of train, query and gallery; the rest is empty.
        more_distractors: Add the folder `images` to the gallery, Market-1501's 500,000 further distractors.
        tracklets: Group the images of an identity by camera and sequence (`c1s1`) into tracklets.
        first_id: 0 reads 0000 as a person, who gets the number 1 as all others get the next one.

    Raises:
        DataError: If folders are missing or empty, names do not parse, or a query has nothing to be found.
    """
    base = find_root(root, roles)
    left_out: list[LeftOut] = []

    def read(role: str) -> list[Crop]:
        if role not in roles:
            return []
        folder = base / FOLDERS[ROLES.index(role)]
        found = _read(folder, role, left_out, tracklets=tracklets, shift=1 - first_id)
        least = 0 if role == "gallery" else 1
        left_out.extend(LeftOut(role, crop.path, crop.pid) for crop in found if crop.pid < least)
        return [crop for crop in found if crop.pid >= least]

    train, query, gallery = map(read, ROLES)
    if more_distractors:
        gallery += _read(extra_gallery(base), "gallery", left_out, tracklets=tracklets, shift=0)
    splits = Splits(base, train, query, gallery, left_out)
    if "train" in roles:
        check_train(splits)
    if "query" in roles:
        check_queries(splits)
    return splits


def parse(path: Path, first_id: int = 1) -> Crop | None:
    """What a file's name says; None where it is no image, or breaks the convention. See `read_market`."""
    match = _NAME.match(path.name) if is_image(path) else None
    return None if match is None else Crop(path, _number(match[1], 1 - first_id), int(match[2]) - 1)


def _number(text: str, shift: int) -> int:
    """An identity, moved by `shift` if it is no negative one."""
    number = int(text)
    return number + shift if number >= 0 else number


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
        raise DataError(
            f"no query of {splits.root} has a gallery image of its identity from another camera; to train on it "
            f"without a test: {WITHOUT_TEST}"
        )


def _read(folder: Path, role: str, left_out: list[LeftOut], *, tracklets: bool, shift: int) -> list[Crop]:
    crops: list[Crop] = []
    strange = []
    runs: dict[tuple[int, int, int], list[Path]] = {}
    for path in sorted(files_in(folder)):
        if is_other_image(path):
            left_out.append(LeftOut(role, path, None))
        if not is_image(path):
            continue
        match = _NAME.match(path.name)
        if match is None:
            strange.append(path.name)
            continue
        pid, cam = _number(match[1], shift), int(match[2]) - 1
        if pid == -1:
            continue
        if not tracklets:
            crops.append(Crop(path, pid, cam))
        elif pid <= 0:
            crops.append(Crop(path, pid, cam, frames=(path,)))  # distractors are not one person
        else:
            runs.setdefault((pid, cam, int(match[3] or 0)), []).append(path)
    if strange:
        raise DataError(
            f"{len(strange)} files of {folder} are not named as identity_cCAMERA..., e.g. {strange[0]}\n{EXPECTED}\n"
            f"{_otherwise(folder.parent)}"
        )
    crops += [Crop(paths[0], pid, cam, frames=tuple(paths)) for (pid, cam, _), paths in runs.items()]
    if not crops:
        raise DataError(f"{folder} holds no images\n{EXPECTED}")
    return sorted(crops, key=lambda crop: crop.path)
