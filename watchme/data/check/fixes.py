"""What mends each kind of problem: a command, or files set aside and label lines corrected, with nothing deleted."""

import csv
import glob
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from watchme.core.errors import DataError
from watchme.core.invocation import as_started
from watchme.data.check.database import ISSUES
from watchme.data.check.issue_kinds import KINDS
from watchme.io.files import replace_text

# Files that go to the folder beside the dataset: what a training cannot use, and copies.
_SET_ASIDE = frozenset(
    {
        "unreadable image",
        "image not read",
        "image in two splits",
        "near-duplicate in two splits",
        "duplicate image",
        "malformed label",  # with its image, whose people would be background
        "label without image",
        "name breaks the convention",
        "identity in train and test",  # all of its training images
        "one picture, two identities",  # both, as one label is wrong
        "query in gallery by another camera",
        "query without a match",
        "identity with one image",
        "odd size",
        "other file",
    }
)
_LINES = frozenset({"box outside the frame", "box of no area", "duplicate box"})
_SPLIT_AGAIN = "python -m watchme.data.prepare yolo {root} --splits hash --out {root}_split"
_WITHOUT_TEST = "python train.py model={model} dataset={dataset} dataset.root={root} 'dataset.targets=[]'"
_COMMANDS: Mapping[str, str] = {
    "split without boxes": _SPLIT_AGAIN,
    "test split without boxes": _SPLIT_AGAIN,
    "no query has a match": _WITHOUT_TEST,
    "identity left out": "python train.py mode=check model={model} dataset={dataset} dataset.root={root} "
    "dataset.first_id=0",
    "class without boxes": "python train.py help=dataset.classes",
    "too few identities": "python -m watchme.data.prepare reid --help",
    "unreadable dataset": "python train.py help=dataset.root",
}
_MISSING_SPLIT = {"detection": _SPLIT_AGAIN, "reid": _WITHOUT_TEST}
_CHECK = "python train.py mode=check model={model} dataset={dataset} dataset.root={root}"
_BOX_COLUMNS = 5


def command(problem: str, folder: Path, names: Mapping[str, str]) -> str:
    """The command that mends a kind of problem; empty for notes that need nothing.

    Args:
        problem: Name of the kind.
        folder: Of the run that found it. Files can be set aside where it holds every finding, as a check's does.
        names: `root`, `dataset` (its option), `model` (its option), `task`.
    """
    quoted = {name: shlex.quote(value) for name, value in names.items()}
    if problem in _SET_ASIDE | _LINES:
        if not (folder / ISSUES).is_file():
            return as_started(_CHECK.format(**quoted))
        return f"python -m watchme.data.check {shlex.quote(str(folder))} {shlex.quote(problem)}"
    if problem == "missing split":
        return as_started(_MISSING_SPLIT.get(names["task"], "").format(**quoted))
    return as_started(_COMMANDS.get(problem, "").format(**quoted))


def mend(folder: Path, problem: str, root: Path) -> tuple[Path, int, int]:
    """Mend all findings of a kind: set files aside, or correct lines of label files, of which a copy is set aside.

    Args:
        folder: Of the check.
        problem: Name of the kind.
        root: Of the dataset.

    Returns:
        The folder of what was set aside, how many files went there, and how many lines were corrected.

    Raises:
        DataError: If there is no such kind, or it is not mended this way.
    """
    if problem not in KINDS:
        raise DataError(f"no problem is called {problem!r}\n    Known ones: {', '.join(sorted(KINDS))}")
    if problem not in _SET_ASIDE | _LINES:
        raise DataError(f"{problem} is not mended by setting files aside\n    {KINDS[problem].why}")
    aside = root.with_name(f"{root.name}_set_aside") / folder.resolve().name
    with (folder / ISSUES).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        issues = [row for row in csv.DictReader(file) if row["problem"] == problem]
    if problem in _LINES:
        return aside, *_correct(issues, problem, root, aside)
    files = dict.fromkeys(path for issue in issues for path in _concerned(issue, problem))
    for path in files:
        target = _place(path, root, aside)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    return aside, len(files), 0


def _concerned(issue: Mapping[str, str], problem: str) -> Iterator[Path]:
    """Files that are still there: that of a finding, its image or label, and whatever else belongs to the problem."""
    paths = [Path(issue["file"])]
    if problem == "one picture, two identities":
        paths.append(Path(issue["other"]))
    if problem == "identity in train and test":
        known = Path(issue["other"])
        paths = sorted(known.parent.glob(f"{known.name.partition('_')[0]}_*"))
    for path in paths:
        yield from (one for one in (path, *_partners(path)) if one.is_file())


def _partners(path: Path) -> Iterator[Path]:
    """The label of an image in the YOLO layout, or the images of a label."""
    here, there = ("labels", "images") if path.suffix == ".txt" else ("images", "labels")
    if here in path.parts:
        parts = list(path.parts)
        parts[len(parts) - 1 - parts[::-1].index(here)] = there
        folder = Path(*parts[:-1])
        yield from (
            sorted(folder.glob(f"{glob.escape(path.stem)}.*")) if there == "images" else [folder / f"{path.stem}.txt"]
        )


def _place(path: Path, root: Path, aside: Path) -> Path:
    """Where a file goes: the same path below the other folder; with a number where that is taken."""
    below = _below(path, root)
    target, number = aside / below, 1
    while target.exists():
        number += 1
        target = (aside / below).with_name(f"{below.stem}-{number}{below.suffix}")
    return target


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(*path.parts[1:])


def _correct(issues: list[dict[str, str]], problem: str, root: Path, aside: Path) -> tuple[int, int]:
    """Clip or remove the lines that findings name; returns how many files and lines were changed."""
    named: dict[Path, list[int]] = {}
    for issue in issues:
        named.setdefault(Path(issue["file"]), []).append(int(issue["line"]))
    files = changed = 0
    for path, numbers in named.items():
        before = aside / _below(path, root)
        if not before.is_file():
            before.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, before)
        # Findings count lines as they were at the check, before another of its problems was mended.
        checked = before.read_text(encoding="utf-8").splitlines()
        lines = path.read_text(encoding="utf-8").splitlines()
        for text in (checked[number - 1] for number in numbers):
            if text in lines:
                place = len(lines) - 1 - lines[::-1].index(text)
                lines[place : place + 1] = [_clipped(text)] if problem == "box outside the frame" else []
                changed += 1
        replace_text(path, "".join(f"{line}\n" for line in lines))
        files += 1
    return files, changed


def _clipped(line: str) -> str:
    """A label line whose box is cut at the image's edge; a polygon's points are moved there."""
    name, *values = line.split()
    if len(values) != _BOX_COLUMNS - 1:
        return " ".join([name, *(f"{min(1.0, max(0.0, float(value))):.6g}" for value in values)])
    x, y, w, h = map(float, values)
    left, right = max(0.0, x - w / 2), min(1.0, x + w / 2)
    top, bottom = max(0.0, y - h / 2), min(1.0, y + h / 2)
    box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return " ".join([name, *(f"{value:.6f}" for value in box)])
