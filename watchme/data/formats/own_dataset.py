"""A re-ID dataset with names of its own as it is trained on: its splits, and who is in them. Standard library only."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from watchme.core.errors import DataError
from watchme.core.formatting import first_few
from watchme.data.formats.market1501 import FOLDERS, ROLES, WITHOUT_TEST, Crop, LeftOut, Splits
from watchme.data.formats.own_names import (
    SPLITS,
    Fault,
    View,
    compiled,
    divided,
    is_list,
    numbers,
    sightings,
    text_of,
    views_of_folder,
    views_of_list,
)

_SHOWN = 5


def find_root(root: Path, roles: Sequence[str]) -> Path:
    """The folder or CSV itself, proven to be there with the splits that are read.

    Raises:
        DataError: If it is not.
    """
    root = root.expanduser()
    if is_list(root):
        return root
    if not root.is_dir():
        raise DataError(f"no such folder or CSV: {root}")
    if any((root / folder).is_dir() for folder in FOLDERS):
        missing = [folder for role, folder in zip(ROLES, FOLDERS, strict=True) if role in roles]
        if missing := [folder for folder in missing if not (root / folder).is_dir()]:
            raise DataError(f"{root} has no {' and no '.join(missing)}; to train on it without a test: {WITHOUT_TEST}")
    elif set(roles) - {"train"}:
        raise DataError(
            f"{root} has no query and no bounding_box_test: all of its images are for training; to train on it "
            f"without a test: {WITHOUT_TEST}"
        )
    return root


def has_test(root: Path) -> bool:
    """Whether a folder has queries or a gallery of its own, or a CSV names any."""
    if not is_list(root):
        return any((root.expanduser() / folder).exists() for folder in FOLDERS[1:])
    views = views_of_list(root, text_of(root.expanduser()), lambda where, what: None)
    return any(view.split in SPLITS[1:] for view in views)


def read_own(
    root: Path, roles: Sequence[str], pattern: str | None, *, tracklets: bool = False, fault: Fault | None = None
) -> Splits:
    """Read a dataset with names of its own.

    A folder with bounding_box_train, query, bounding_box_test has the splits in these; else all of its images are for
    training, as are those of a CSV without a column split.

    Args:
        root: The folder, or a CSV.
        roles: What is read of train, query and gallery.
        pattern: See `compiled`; for a CSV it is not used.
        tracklets: Whether images of a tracklet are one item.
        fault: Gets what cannot be used; without it that is an error.

    Raises:
        DataError: If records cannot be used, or a split that is wanted has no image.
    """
    root = root.expanduser()
    bad: list[str] = []
    left_out: list[LeftOut] = []
    report = fault or (lambda where, what: bad.append(f"{where}: {what}"))
    parts = _parts(root, roles, pattern, report, left_out)
    if bad:
        shown = "\n    ".join(first_few(bad, _SHOWN))
        raise DataError(f"{root}: {len(bad)} records cannot be used:\n    {shown}")
    everybody = [view for own in parts.values() for view in own]
    people, cameras = (numbers(names) for names in ({v.identity for v in everybody}, {v.camera for v in everybody}))
    crops: dict[str, list[Crop]] = {role: [] for role in ROLES}
    for role, own in parts.items():
        for one in sightings(own) if tracklets else [[view] for view in own]:
            other = len(cameras) if one[0].split == "later" else 0
            crops[role].append(
                Crop(
                    one[0].path,
                    people[one[0].identity],
                    cameras[one[0].camera] - 1 + other,
                    frames=tuple(view.path for view in one) if tracklets else (),
                )
            )
        if role in roles and not crops[role]:
            raise DataError(f"{root} names no image of {role}")
    train, query, gallery = (sorted(crops[role], key=lambda crop: crop.path) for role in ROLES)
    return Splits(root, train, query, gallery, left_out)


def _parts(
    root: Path, roles: Sequence[str], pattern: str | None, fault: Fault, left_out: list[LeftOut]
) -> dict[str, list[View]]:
    """Role -> its images. The split of a view in the gallery is `later` where another camera is to have taken it."""
    found: dict[str, list[View]] = {role: [] for role in roles}

    def read(folder: Path, role: str) -> list[View]:
        assert pattern is not None
        return list(
            views_of_folder(folder, compiled(pattern), fault, lambda path: left_out.append(LeftOut(role, path, None)))
        )

    if not is_list(root):
        own_folders = any((root / folder).is_dir() for folder in FOLDERS)
        for role in roles:
            folder = root / FOLDERS[ROLES.index(role)] if own_folders else root
            if role == "train" or own_folders:
                found[role] = read(folder, role)
        return found
    views = list(views_of_list(root, text_of(root), fault))
    by_identity: dict[str, list[View]] = defaultdict(list)
    for view in views:
        if view.split != "test":
            found.setdefault(view.split or "train", []).append(view)
        else:
            by_identity[view.identity].append(view)
    for own in by_identity.values():
        query, gallery, alone = divided(sightings(own))
        found.setdefault("query", []).extend(view for one in query for view in one)
        later = "later" if alone else ""
        found.setdefault("gallery", []).extend(
            View(view.path, view.identity, view.camera, view.tracklet, later) for one in gallery for view in one
        )
    return {role: found[role] for role in roles}
