"""Where files that outlive a run are kept: the demo world, library settings, matplotlib's cache."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder of watchme, without creating it.

    `WATCHME_CACHE` names it; otherwise it is `watchme` below `XDG_CACHE_HOME`, by default `~/.cache`.
    """
    if named := os.environ.get("WATCHME_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchme"
