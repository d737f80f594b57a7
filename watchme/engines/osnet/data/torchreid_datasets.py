"""torchreid's own dataset classes as lists of image files with identity and camera."""

import contextlib
import io
import logging
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from watchme.core.errors import DataError
from watchme.data.formats.reid_datasets import TORCHREID_DATASETS, DatasetLayout
from watchme.engines.osnet.quiet_torchreid import datasets

log = logging.getLogger(__name__)

# A line of MSMT17's lists as torchreid splits it: image, with the camera between its underscores, and identity.
_MSMT17_LINE = re.compile(r"[^ _]+_[^ _]*_\d+(_[^ ]*)? \d+")


class Entry(NamedTuple):
    """An image or tracklet as torchreid numbers it; `junk` matches nobody."""

    files: tuple[Path, ...]
    pid: int
    cam: int
    junk: bool


class Found(NamedTuple):
    """The splits of a dataset of torchreid, in its order."""

    train: list[Entry]
    query: list[Entry]
    gallery: list[Entry]


def read_torchreid(
    name: str,
    folder: Path,
    *,
    split_id: int = 0,
    combineall: bool = False,
    cuhk03_labeled: bool = False,
    cuhk03_classic_split: bool = False,
) -> Found:
    """Read one of `TORCHREID_DATASETS` by torchreid's class, which may write its splits into the folder.

    Random splits that torchreid makes are always the same, and the state of the global generators is put back. Where a
    file of splits names images by a path that they had once, they are looked for in `folder`.

    Args:
        name: Key of `TORCHREID_DATASETS`.
        folder: What `reid_datasets.find_known` found.
        split_id: Which of the dataset's splits.
        combineall: Let torchreid add query and gallery to the training set, less its junk.
        cuhk03_labeled: cuhk03: boxes drawn by hand instead of detected ones.
        cuhk03_classic_split: cuhk03: one of the 20 splits of 2014 instead of the one of 2017.

    Raises:
        DataError: If torchreid cannot read it, or images are missing.
    """
    known = TORCHREID_DATASETS[name]
    if name == "msmt17":
        _check_msmt17_lists(folder)
    options: dict[str, Any] = {"combineall": combineall, "verbose": False}
    if known.splits > 1:
        options["split_id"] = split_id
    if name == "cuhk03":
        options |= {"cuhk03_labeled": cuhk03_labeled, "cuhk03_classic_split": cuhk03_classic_split}
    if known.video:
        options["transform"] = lambda image: image
    reader = getattr(datasets, known.reader)
    # A subclass, so that torchreid itself is not changed: the folder is the one found, and nothing is downloaded.
    changes = {"dataset_dir": "", "download_dataset": _nothing, "check_before_run": _nothing}
    local = type(known.reader, (reader,), changes)
    try:
        with _quiet_and_repeatable(name):
            found = local(root=str(folder), **options)
        junk = set(reader._junk_pids)
        return Found(
            _entries(found.train, folder, known, set()),
            _entries(found.query, folder, known, junk),
            _entries(found.gallery, folder, known, junk),
        )
    except DataError:
        raise
    except ModuleNotFoundError as error:
        raise DataError(f"torchreid needs {error.name} to read {name}: pip install {error.name}") from None
    except PermissionError as error:
        text = f"torchreid keeps the splits of {name} beside it, but {error.filename or folder} cannot be written"
        raise DataError(f"{text}; make {folder} writable for one run") from None
    except Exception as error:  # its asserts, and whatever a damaged list or split file makes it raise
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        own = sorted(path.name for path in folder.glob("split*.json"))
        advice = f"\n    {', '.join(own)} there is torchreid's own and can be removed; it is made again." if own else ""
        raise DataError(f"torchreid cannot read {name} in {folder}: {reason}{advice}") from error


def _check_msmt17_lists(folder: Path) -> None:
    """Raise a DataError with file and line for what torchreid would answer by an IndexError that names neither."""
    for path in sorted(folder.glob("MSMT17_V*/list_*.txt")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines and path.stem != "list_val":
            raise DataError(f"{path} is empty; each line is an image and its identity")
        for number, line in enumerate(lines, start=1):
            if not _MSMT17_LINE.fullmatch(line):
                example = "0000/0000_000_01_0303morning_0015_0.jpg 0"
                raise DataError(f"{path}:{number}: expected an image and its identity, as in {example}; found {line!r}")


def _nothing(*_: object, **__: object) -> None:
    """Stands for what torchreid shall not do."""


@contextlib.contextmanager
def _quiet_and_repeatable(name: str) -> Iterator[None]:
    """What torchreid prints goes to the log; its random splits are those of seed 0, and generators are put back."""
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
            warnings.simplefilter("always")
            yield
        for line in (*printed.getvalue().splitlines(), *(str(warning.message) for warning in caught)):
            log.info("%s: %s", name, line)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _entries(rows: Sequence[Any], folder: Path, known: DatasetLayout, junk: set[int]) -> list[Entry]:
    entries = []
    missing: list[Path] = []
    for names, pid, cam, *_ in rows:
        files = tuple(sorted(Path(each) for each in ([names] if isinstance(names, str) else names)))
        if not files:
            raise DataError(f"a tracklet of identity {pid} in {folder} has no images")
        if not files[0].exists():
            files = tuple(_moved(path, folder, known) for path in files)
        missing += [path for path in files if not path.exists()]
        entries.append(Entry(files, int(pid), int(cam), int(pid) in junk))
    if missing:
        raise DataError(
            f"{len(missing)} images that the lists of {folder} name are missing, e.g. {missing[0]}\n"
            f"    Where the dataset was moved, remove torchreid's splits*.json or split_*.json there."
        )
    return entries


def _moved(path: Path, folder: Path, known: DatasetLayout) -> Path:
    """Where an image is now, if the dataset was elsewhere when its splits were written."""
    _, inside, tail = path.as_posix().rpartition(f"/{known.folder}/")
    return folder / tail if inside else path
