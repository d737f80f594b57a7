"""Safe reading of zip and tar archives: every entry is checked before the first is unpacked.

Refused, by the entry's name: paths that lead out of the folder, links, devices, encrypted or doubled entries, and
archives that unpack to more than `Limit` allows.
"""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from watchme.core.errors import DataError

_GIB = 2**30
_FREE_SIZE = _GIB
"""Below it an archive may be packed as tightly as it likes."""
_RATIO = 100
"""Times an archive's own size that it may unpack to, from `_FREE_SIZE` on. Images unpack to 1.1 times at most."""
_ENTRIES = 5_000_000
_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_BROKEN = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Entry:
    """A file in an archive or a folder."""

    name: str  # its path, proven to be relative and to stay inside
    size: int  # bytes, unpacked
    mark: str  # what changes with its content: a checksum or a time, for fingerprints


class Container(Protocol):
    """An archive or a folder, opened."""

    path: Path
    entries: list[Entry]

    def files(self) -> Iterator[tuple[Entry, IO[bytes] | Path]]:
        """Each entry with its content as a stream, or with the file itself."""
        ...


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(_SUFFIXES)


@contextmanager
def opened(path: Path, limit: int) -> Iterator[Container]:
    """Open an archive (zip or tar) or a folder and check every entry; it may unpack to `limit` bytes.

    Raises:
        DataError: If it cannot be read, or holds an entry that is refused.
    """
    if path.is_dir():
        yield _Tree(path)
        return
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                yield _Zip(path, packed, limit)
        elif tarfile.is_tarfile(path):
            yield _Tar(path, limit)
        else:
            raise DataError(f"{path} is neither a zip nor a tar archive; unpack it yourself, and name the folder")
    except _BROKEN as error:
        raise DataError(f"{path} is damaged: {error or type(error).__name__}; fetch it again") from None


class _Zip:
    def __init__(self, path: Path, packed: zipfile.ZipFile, limit: int) -> None:
        self.path = path
        self._packed = packed
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self.entries = []
        guard = _Guard(path, limit)
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                guard.refuse(info.filename, "a link" if kind == stat.S_IFLNK else "a device or pipe")
            # ZipInfo cuts a name at a NUL; the original has all of it.
            name = guard.name(info.orig_filename)
            if info.is_dir() or info.filename.endswith("\\"):
                continue
            if info.flag_bits & 0x1:
                guard.refuse(info.filename, "encrypted; unpack it yourself, and name the folder")
            guard.count(name, info.file_size)
            self._infos[name] = info
            self.entries.append(Entry(name, info.file_size, f"{info.CRC:08x}"))
        guard.end()

    def files(self) -> Iterator[tuple[Entry, IO[bytes] | Path]]:
        for entry in self.entries:
            with self._packed.open(self._infos[entry.name]) as stream:
                yield entry, stream


class _Tar:
    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.entries = []
        guard = _Guard(path, limit)
        for member, _ in self._members():
            name = guard.name(member.name)
            if member.isdir():
                continue
            if not member.isreg():
                guard.refuse(member.name, "a link" if member.issym() or member.islnk() else "a device or pipe")
            guard.count(name, member.size)
            self.entries.append(Entry(name, member.size, str(int(member.mtime))))
        guard.end()

    def files(self) -> Iterator[tuple[Entry, IO[bytes] | Path]]:
        entries = iter(self.entries)
        for member, packed in self._members():
            if member.isreg():
                stream = packed.extractfile(member)
                assert stream is not None
                yield next(entries), stream

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
        with tarfile.open(self.path, "r:*") as packed:
            for member in packed:
                yield member, packed
            # tarfile takes a header that it cannot read for the end; the true one is a block of zeros.
            assert packed.fileobj is not None
            packed.fileobj.seek(packed.offset)
            if packed.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no entry can be read at byte {packed.offset:,}")
            while packed.fileobj.read(1 << 20):  # to the checksum of what it is compressed by
                pass


class _Tree:
    """A folder that was unpacked already. Links in it are followed: it is the user's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._paths = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if not file.is_dir()}
        self.entries = []
        for name, file in self._paths.items():
            if not file.is_file():
                raise DataError(f"{file} is a link to nothing, or no file")
            state = file.stat()
            self.entries.append(Entry(name, state.st_size, str(state.st_mtime_ns)))

    def files(self) -> Iterator[tuple[Entry, IO[bytes] | Path]]:
        for entry in self.entries:
            yield entry, self._paths[entry.name]


class _Guard:
    """Checks the entries of an archive, one after the other."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._packed = path.stat().st_size
        self._size = 0
        self._seen: set[str] = set()
        self._folders: dict[str, str] = {}

    def refuse(self, entry: str, why: str) -> None:
        raise DataError(f"{self._path}: the entry {entry!r} is {why}; nothing was unpacked")

    def name(self, entry: str) -> str:
        """The path of an entry, with what archives write differently taken out of it: ./a, a/, a\\b."""
        parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".")]
        if entry.startswith(("/", "\\")) or (len(entry) > 1 and entry[1] == ":"):
            self.refuse(entry, "an absolute path")
        if ".." in parts:
            self.refuse(entry, "a path that leads out of the folder")
        if "\0" in entry:
            self.refuse(entry, "no path")
        return "/".join(parts)

    def count(self, name: str, size: int) -> None:
        """Take in a file."""
        if not name:
            self.refuse(name, "a file without a name")
        if name in self._seen:
            self.refuse(name, "there twice")
        self._seen.add(name)
        parent = name.rpartition("/")[0]
        while parent and parent not in self._folders:
            self._folders[parent] = name
            parent = parent.rpartition("/")[0]
        self._size += size
        if self._size > self._limit:
            self.refuse(
                name, f"where the archive unpacks to more than {self._limit / _GIB:g} GiB (--max-gib allows more)"
            )
        if self._size > max(_FREE_SIZE, _RATIO * self._packed):
            self.refuse(
                name,
                f"where the archive unpacks to more than {_RATIO} times its size; unpack it yourself if you trust it",
            )
        if len(self._seen) > _ENTRIES:
            self.refuse(name, f"one of more than {_ENTRIES:,}")

    def end(self) -> None:
        """Refuse a file that is a folder of another entry, too."""
        for name in self._seen & self._folders.keys():
            self.refuse(self._folders[name], f"in a folder {name!r}, which is also a file")
