"""Where frames come from: an image, a folder, a glob, a list of paths, a video, a camera or a stream.

Images are read by `data/images.py` as everywhere else. Nothing is kept: a source can be iterated again, except for a
camera or a stream.
"""

import csv
import glob
import logging
import re
from pathlib import Path

from watchme.core.errors import DataError
from watchme.inference.camera import LiveSource
from watchme.inference.demo import demo_film, is_demo
from watchme.inference.frames import FrameSource
from watchme.inference.live import is_live
from watchme.inference.pictures import PictureSource
from watchme.inference.video_reader import VIDEO_SUFFIXES, VideoSource
from watchme.io.image_files import IMAGE_SUFFIXES, files_in, is_image, is_other_image

__all__ = ["FrameSource", "open_source"]

log = logging.getLogger(__name__)

LIST_SUFFIXES = frozenset({".csv", ".txt"})
_PATH_COLUMNS = ("path", "file", "filename", "image")


def open_source(source: str | int | Path) -> FrameSource:
    """Open what pictures come from.

    Args:
        source: An image file; a folder, with those below it; a glob such as `photos/*.jpg` (`**` for folders below);
            a .txt or .csv file of paths, relative to its folder, a line each; a video file; the number of a camera; an
            rtsp, http or udp address; `demo`, the demo film, which is drawn at first use.

    Raises:
        DataError: If there is no such thing, it is empty, or OpenCV cannot open it.
    """
    text = str(source).strip()
    if is_live(text):
        return LiveSource(text)
    path = Path(text).expanduser()
    if is_demo(text):
        return VideoSource(str(demo_film().video))
    if text and path.is_dir():
        return PictureSource(text, _in_folder(path), path)
    if path.is_file():
        return _of_file(text, path)
    if glob.has_magic(text):
        return _of_glob(text, path)
    raise DataError(
        f"source: there is no {text!r}; give an image, a folder, a glob in quotes ('photos/*.jpg'), a video, a .txt or "
        ".csv list of paths, a camera's number, or an rtsp:// address"
    )


def natural_key(text: str) -> list[tuple[bool, int, str]]:
    """Sorting key by which frame9 comes before frame10."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text) if part]


def _of_file(text: str, path: Path) -> FrameSource:
    suffix = path.suffix.lower()
    if suffix in LIST_SUFFIXES:
        return PictureSource(text, _in_list(path), path.parent)
    if suffix in VIDEO_SUFFIXES:
        return VideoSource(text)
    if suffix in IMAGE_SUFFIXES:
        return PictureSource(text, [path], path.parent)
    known = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES | LIST_SUFFIXES))
    raise DataError(f"source: {path} is of no known kind; known are {known}")


def _of_glob(text: str, path: Path) -> FrameSource:
    matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207, Path.glob takes no absolute pattern
    found = sorted(matches, key=lambda each: natural_key(str(each)))
    images = [each for each in found if each.is_file() and is_image(each)]
    if not images:
        what = f"{len(found)} files, none of them an image that is read" if found else "nothing"
        raise DataError(f"source: {text!r} matches {what}")
    anchor = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))])
    return PictureSource(text, images, anchor)


def _in_folder(folder: Path) -> list[Path]:
    files = list(files_in(folder))
    images = sorted((path for path in files if is_image(path)), key=lambda path: natural_key(str(path)))
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if not images and videos:
        several = ",".join(map(str, sorted(videos)[:2]))
        raise DataError(
            f"source: {folder} holds {len(videos)} videos and no images; give one video at a time, or several as a "
            f"sweep: python train.py -m ... source={several}"
        )
    if not images:
        raise DataError(f"source: {folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    left_out = len(videos) + sum(map(is_other_image, files))
    if left_out:
        log.warning("%d videos and images of other formats in %s are left out", left_out, folder)
    return images


def _in_list(file: Path) -> list[Path]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"source: the list {file} cannot be read: {error}") from None
    lines = _column_of_paths(lines) if file.suffix.lower() == ".csv" else [line.strip() for line in lines]
    named = [file.parent / Path(line).expanduser() for line in lines if line and not line.startswith("#")]
    if not named:
        raise DataError(f"source: the list {file} names no file")
    missing = [path for path in named if not path.is_file()]
    if missing:
        raise DataError(
            f"source: {len(missing)} of the {len(named)} files that {file} names are not there, e.g. {missing[0]}; "
            "paths are relative to the list's folder"
        )
    other = [path for path in named if not is_image(path)]
    if other:
        raise DataError(f"source: {file} names {other[0]}, which is no image; a list is of images")
    return named


def _column_of_paths(lines: list[str]) -> list[str]:
    """The cells of a CSV in the column that is named as one of paths, else in the first."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if any(row)]
    head = [cell.lower() for cell in rows[0]] if rows else []
    column = next((head.index(name) for name in _PATH_COLUMNS if name in head), None)
    return [row[column or 0] for row in rows[column is not None :] if len(row) > (column or 0)]
