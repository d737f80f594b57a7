"""Reading annotations of other formats: bad records, what is left out and why, and a fingerprint of the source."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from watchme.core.errors import DataError
from watchme.core.formatting import first_few

_SHOWN = 20


@dataclass
class Faults:
    """Records of the source that cannot be used."""

    skip: bool = False  # whether they are left out (`--skip-bad`) instead of ending the command
    found: list[str] = field(default_factory=list)  # one line each, with file and record
    fix: str = "--skip-bad leaves them out and counts them"  # what to do about them, for the error

    def add(self, where: object, what: str) -> None:
        """Note that record `where` is bad."""
        self.found.append(f"{where}: {what}")

    def settle(self) -> None:
        """Raise a DataError with all of them, unless they are to be skipped. Called before anything is written."""
        if self.found and not self.skip:
            count = "1 bad record" if len(self.found) == 1 else f"{len(self.found)} bad records"
            raise DataError(
                f"the source has {count}; nothing more was written:\n    "
                + "\n    ".join(self.shown())
                + f"\n{self.fix}"
            )

    def shown(self) -> list[str]:
        """The first of them, and how many more there are."""
        return first_few(self.found, _SHOWN)


@dataclass
class Source:
    """What was read of a dataset in another format, besides the records themselves."""

    faults: Faults  # bad records
    # Why something is left out -> how often, e.g. `boxes without area`
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)  # what the user reads at the end, one line each
    _digest: Any = field(default_factory=hashlib.sha256)

    def mark(self, *values: object) -> None:
        """Take values into the fingerprint."""
        self._digest.update(json.dumps([str(value) for value in values]).encode())

    def read(self, path: Path) -> bytes:
        """An annotation file's bytes, taken into the fingerprint.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
        self.mark(path.name, hashlib.sha256(content).hexdigest())
        return content

    def text(self, path: Path) -> str:
        """The same, as text.

        Raises:
            DataError: If it cannot be read, or is not UTF-8.
        """
        try:
            return self.read(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not text in UTF-8: byte {error.start}") from None

    @property
    def fingerprint(self) -> str:
        """Hash over what was marked."""
        return str(self._digest.hexdigest()[:20])


def inside(name: object) -> PurePosixPath:
    """A relative path that a record names, proven to stay in its folder.

    Raises:
        ValueError: If it does not, or is no path at all.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"a file name was expected, found {name!r}")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":"):
        raise ValueError(f"the file name {name!r} leads out of the image folder")
    return path
