"""Errors that end a run, in words that a user can act on: a full disk, a killed loader process, how to go on."""

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from watchme.config.schema import RunConfig
from watchme.core.errors import RunFolderError, WatchmeError
from watchme.io.cache import cache_dir
from watchme.run.summary import resume_command

_FULL = {errno.ENOSPC, errno.EDQUOT}
# torch.utils.data's words where a worker does not end by itself, mostly since the system has no memory left.
_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) (is killed by signal: \w+|exited unexpectedly)")


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that a disk or a quota is full."""
    return any(isinstance(one, OSError) and one.errno in _FULL for one in _chain(error))


def is_interruption(error: BaseException) -> bool:
    """Whether it is Ctrl-C or a signal like it, or was raised while that was handled.

    A signal to all processes ends loaders, too, and the trainer that waits for a batch then raises that they are gone.
    """
    return any(isinstance(one, KeyboardInterrupt) for one in _chain(error))


def _full_folder(folder: Path, file: str | None) -> Path:
    """The run's folder, or the cache, where that is on another disk and holds the file, or has less room."""
    cache = cache_dir()
    if not cache.is_dir() or cache.stat().st_dev == folder.stat().st_dev:
        return folder
    if file is not None:
        return cache if Path(file).is_relative_to(cache) else folder
    return min((folder, cache), key=lambda place: shutil.disk_usage(place).free)


def explain(error: BaseException, config: RunConfig, folder: Path) -> WatchmeError | None:
    """What to do about an error of the system; None where nothing is known."""
    again = resume_command(folder) if config.mode == "train" else "the same command"
    if is_full_disk(error):
        file = next((one.filename for one in _chain(error) if isinstance(one, OSError) and one.filename), None)
        place = _full_folder(folder, file)
        free = shutil.disk_usage(place).free / 2**20
        return RunFolderError(
            f"the disk is full: {file or place} could not be written, {place} has {free:,.0f} MiB left. Make room, "
            f"then go on with: {again}"
        )
    for one in _chain(error):
        if match := _WORKER.search(str(one)):
            return WatchmeError(
                f"a process that loads images {match[1]}: most likely memory ran out (dmesg says so). Fewer processes "
                f"or less in memory: train.workers=2, dataset.cache=none. Then go on with: {again}"
            )
    return None


def say_how_to_go_on(error: WatchmeError, config: RunConfig, folder: Path) -> None:
    """Add the command that resumes it to the text of an error that has ended a training after its first epoch."""
    if config.mode == "train" and (folder / "weights" / "last.pt").is_file() and "train.resume=" not in str(error):
        error.args = (f"{error}\n    The last whole epoch is saved. Go on with:\n    {resume_command(folder)}",)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
