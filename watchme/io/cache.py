"""Where files that outlive a run are kept: the demo world, library settings, matplotlib's cache."""

import os
from pathlib import Path

from watchme.core.errors import WatchmeError


def cache_dir() -> Path:
    """Return the cache folder of watchme, without creating it.

    `WATCHME_CACHE` names it; otherwise it is `watchme` below `XDG_CACHE_HOME`, by default `~/.cache`.
    """
    if named := os.environ.get("WATCHME_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchme"


def writable_cache_dir() -> Path:
    """The cache folder, which is made.

    Raises:
        WatchmeError: If it cannot be written; says how to name another one.
    """
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "permission denied")
    except OSError as error:
        raise WatchmeError(
            f"the cache folder {folder} cannot be written ({error.strerror}); name another one: "
            "export WATCHME_CACHE=<folder>"
        ) from None
    return folder
