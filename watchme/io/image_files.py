"""Which files are images, by their suffixes, and the image files in a folder. Standard library only."""

import os
from collections.abc import Iterator
from pathlib import Path

from watchme.core.errors import DataError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Of images that are read, see `images.read_image`."""
# fmt: off
OTHER_SUFFIXES = frozenset({
    ".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".ico",
    ".j2k", ".jfif", ".jp2", ".jpe", ".jpf", ".jpx", ".jxl", ".nef", ".orf", ".pbm", ".pcx",
    ".pfm", ".pgm", ".pnm", ".ppm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga",
})
# fmt: on
"""Of images that are not read: they are counted and named, so that nothing is left out silently."""


YAML_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml", "data_config.yaml")
"""What the yaml of a YOLO dataset is called."""


def files_in(folder: Path) -> Iterator[Path]:
    """All files in a folder and those below it, as the system lists them; links to folders are followed, once each.

    Raises:
        DataError: If a folder cannot be listed, or a name is not UTF-8, which neither logs nor reports could hold.
    """
    visited: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            state = current.stat()
            if (state.st_dev, state.st_ino) in visited:
                continue
            visited.add((state.st_dev, state.st_ino))
            with os.scandir(current) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        waiting.append(current / entry.name)
                    else:
                        yield current / require_utf8(entry.name, current)
        except OSError as error:
            raise DataError(f"{current} cannot be listed: {error.strerror or error}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which is a file that cannot be read
        return False


def require_utf8(name: str, folder: Path) -> str:
    """A file's name, proven to be UTF-8.

    Raises:
        DataError: If it is not.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"a file of {folder} has a name that is not UTF-8: {os.fsencode(name)!r}. Rename it, or all of them: "
            f"convmv -f latin1 -t utf8 -r --notest '{folder}'"
        ) from None
    return name


def is_image(path: Path) -> bool:
    """Whether a file is an image that is read, by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_other_image(path: Path) -> bool:
    """Whether a file is an image of a format that is not read, by its suffix."""
    return path.suffix.lower() in OTHER_SUFFIXES
