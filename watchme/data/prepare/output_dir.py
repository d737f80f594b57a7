"""The output folder of a conversion: hard links, atomic files, and a manifest of what it was made from.

A conversion that was killed leaves `prepare.unfinished.json` and whole files only; the same command goes on from
there, since each file is written beside its place, in `.prepare/`, and then renamed. `prepare.json` comes last.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import watchme
from watchme.core.errors import DataError
from watchme.io.files import locked

MANIFEST = "prepare.json"
UNFINISHED = "prepare.unfinished.json"
_WORK = ".prepare"
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Folder:
    """An output folder that is being filled. Made by `filling`.

    Attributes:
        root: The folder.
        before: What prepare.json, or an unfinished one, said when it was opened; empty for a new folder.
        same_source: Whether all that is there was made from the same source, so that whole files need no second look.
        new: How many files were written or linked by this process.
        kept: How many were there already.
    """

    def __init__(self, root: Path, before: Mapping[str, Any], head: dict[str, Any], *, copy: bool) -> None:
        self.root = root
        self.before = before
        self.same_source = before.get("fingerprint") == head["fingerprint"]
        self.new = self.kept = 0
        self._head = head
        self._copy = copy
        self._links = not copy
        self._copied = 0
        self._work = root / _WORK

    def link(self, source: Path, name: str) -> None:
        """Make `name` the image `source`: by a hard link, or by a copy where the file system has none.

        Raises:
            DataError: If it cannot be done.
        """
        # A link to a symbolic link would break when that moves.
        real, target = source.resolve(), self.root / name
        there = _stat(target)
        origin = real.stat()
        # A copy has the time of its source, a link has it anyway.
        same = there is not None and (there.st_size, there.st_mtime_ns) == (origin.st_size, origin.st_mtime_ns)
        if same and not (self._copy and target.samefile(real)):
            self.kept += 1
            return
        self._fits(target)
        temporary = self._work / target.name
        if self._links:
            try:
                os.link(real, temporary)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._links = False
                print(f"images are copied: {real} cannot be linked to {self.root} ({error.strerror})", file=sys.stderr)
        if not self._links:
            shutil.copy2(real, temporary)
            self._copied += 1
        temporary.replace(target)
        self.new += 1

    def write(self, name: str, content: str | bytes) -> None:
        """Make `name` a file of this content; one that has it already is not touched."""
        data = content.encode() if isinstance(content, str) else content
        target = self.root / name
        there = _stat(target)
        if there is not None and there.st_size == len(data) and target.read_bytes() == data:
            self.kept += 1
            return
        with self._making(target) as temporary:
            temporary.write_bytes(data)

    def has(self, name: str, size: int | None = None) -> bool:
        """Whether `name` was made from this source before, with `size` bytes if known, and need not be made again."""
        there = _stat(self.root / name) if self.same_source else None
        if there is None or (size is not None and there.st_size != size):
            return False
        self.kept += 1
        return True

    def make(self, name: str, write: Callable[[Path], object]) -> None:
        """Make `name` by a function that writes the path it is given; afterwards the file is there, or was not made."""
        with self._making(self.root / name) as temporary:
            write(temporary)

    def refuse_strangers(self, expected: set[str], *folders: str) -> None:
        """Raise a DataError if folders hold files that this conversion does not make: nothing is ever deleted."""
        there = [path for folder in folders for path in (self.root / folder).rglob("*") if not path.is_dir()]
        if strange := sorted({path.relative_to(self.root).as_posix() for path in there} - expected):
            raise DataError(
                f"{self.root} has {len(strange)} files that this source does not give (any more), e.g. {strange[0]}\n"
                "    Delete them, or choose another --out; nothing was deleted"
            )

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Write prepare.json, by which the folder is whole."""
        manifest = {**self._head, **facts}
        self.write(MANIFEST, json.dumps(manifest, indent=2) + "\n")
        (self.root / UNFINISHED).unlink(missing_ok=True)
        return manifest

    def start(self) -> None:
        """Note what the folder is about to hold, so that the same command may go on with it."""
        if not self.before:
            self.write(UNFINISHED, json.dumps(self._head, indent=2) + "\n")
            self.new = 0

    @property
    def outcome(self) -> str:
        """What was done, for the last lines."""
        copies = f", {self._copied} of them copies" if self._copied else ""
        return f"{self.new} files new{copies}, {self.kept} there already"

    @contextlib.contextmanager
    def _making(self, target: Path) -> Iterator[Path]:
        self._fits(target)
        temporary = self._work / target.name
        yield temporary
        temporary.replace(target)
        self.new += 1

    def _fits(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._work.mkdir(exist_ok=True)


@contextlib.contextmanager
def filling(
    root: Path,
    command: str,
    options: Mapping[str, Any],
    fingerprint: str,
    *,
    copy: bool = False,
    sources: Mapping[str, Any] | None = None,
) -> Iterator[Folder]:
    """Open an output folder, alone; it is made if it is not there.

    A folder made with other `options` is refused; `sources` are paths and the like, which are noted but may change.

    Raises:
        DataError: If the folder holds something else, another process is filling it, or it cannot be written.
    """
    root = root.expanduser().absolute()
    head = {
        "made_by": f"python -m watchme.data.prepare {command}",
        "watchme": watchme.__version__,
        "options": dict(options),
        "sources": dict(sources or {}),
        "fingerprint": fingerprint,
    }
    if root.exists() and not root.is_dir():
        raise DataError(f"--out {root} is a file; name a folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root, wait=False):
            before = _before(root, head)
            folder = Folder(root, before, head, copy=copy)
            # What a process that was killed had half written.
            shutil.rmtree(root / _WORK, ignore_errors=True)
            folder.start()
            try:
                yield folder
            finally:
                shutil.rmtree(root / _WORK, ignore_errors=True)
    except BlockingIOError:
        raise DataError(f"another process is filling {root}; wait for it, or choose another --out") from None
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}") from error


def _before(root: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder was made by, proven to be the same command with the same options."""
    for name in (MANIFEST, UNFINISHED):
        if not (root / name).is_file():
            continue
        try:
            found = json.loads((root / name).read_text(encoding="utf-8"))
            made_by, options = found["made_by"], dict(found["options"])
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{root / name} is damaged; choose another --out") from None
        wanted = {"made by": head["made_by"], **head["options"]}
        had = {"made by": made_by, **options}
        if changed := [key for key in {**had, **wanted} if had.get(key) != wanted.get(key)]:
            lines = "\n    ".join(f"{key}: {had.get(key)!r} there, {wanted.get(key)!r} now" for key in changed)
            raise DataError(f"{root} was made otherwise:\n    {lines}\nChoose another --out, or delete that folder")
        return dict(found)
    if others := sorted(path.name for path in root.iterdir() if path.name != _WORK):
        raise DataError(
            f"--out {root} holds something else, e.g. {others[0]}: it has no {MANIFEST} of an earlier conversion.\n"
            "    Choose a folder that is empty or not there yet"
        )
    return {}


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
