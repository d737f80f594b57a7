"""Files: atomic writes of files and folders, locks, and readers for folders that may be incomplete."""

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_TEMPORARY = ".tmp"
# libyaml reads a config in 2 ms rather than 20, which counts for an index of hundreds of runs.
_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it there when the block ends without an error; makes the folder.

    Readers see the old file or the new one, and several processes may write at once. A kill leaves the temporary file,
    which `remove_temporaries` deletes. `sync` waits some 10 ms until the disk has it, so that it survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8 atomically, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, see `replacing` and `json_value`."""
    replace_text(path, json.dumps(json_value(value), indent=2) + "\n")


def overwrite_text(path: Path, text: str) -> None:
    """Write over a file in place, which needs no new block of a full disk while it does not grow beyond its last."""
    with path.open("r+", encoding="utf-8") as file:
        file.write(text)
        file.truncate()


def json_value(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinities as null, NumPy and torch numbers as numbers, the rest as text."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (int, str, bool)) or value is None:
        return value
    return json_value(value.item()) if hasattr(value, "item") else str(value)


def remove_temporaries(folder: Path) -> None:
    """Delete the files and folders that killed writers left in a folder; only while nothing is written there."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_if_empty(folder: Path) -> None:
    """Delete a folder that holds nothing; one that is not there is no error."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@contextlib.contextmanager
def whole_folder(folder: Path, last: str) -> Iterator[Path]:
    """Fill a temporary folder, and rename it to `folder` at the end, so that it appears complete or not at all.

    Where another process was first, its folder is kept; one without the file `last`, which is in every complete folder,
    is incomplete, and is replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / last).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where the file is missing, damaged, or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty where the file is missing, damaged, or holds something else."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _YAML_LOADER)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Let one process of this machine at a time into the block; the system frees the lock of a process that dies.

    `path` is a folder, which is locked without leaving a file, or a lock file, which is made. On Windows, which has no
    flock, every process is let in.

    Raises:
        BlockingIOError: If another process has it and `wait` is false.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
