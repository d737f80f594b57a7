"""The sweep's folder: it belongs to one study, its trials find it, and failed trials leave their reason in it.

<hydra.sweep.subdir>   a trial's run folder      study.db      the study, by default
leaderboard.csv        the trials, best first    study.json    the study that the folder belongs to
experiment/best.yaml   retrains the winner       report/       the page
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from watchme.config.overrides import override_text
from watchme.core.errors import ConfigError, Problem, RunFolderError
from watchme.io.files import replace_json
from watchme.io.run_lookup import STUDY
from watchme.run.run_dir import MANIFEST, read_manifest
from watchme.sweep.database_password import take_password
from watchme.sweep.trial_outcome import Outcome

_KEY = "hydra.sweep.dir"


def pin(config: DictConfig, key: str, value: Any) -> None:
    """Set a key of `hydra` for the sweep and for each of its jobs, which compose their config again."""
    with read_write(config.hydra), open_dict(config.hydra):
        OmegaConf.update(config, key, value)
        config.hydra.overrides.hydra.append(f"{key}={override_text(value)}")


def prepare(config: DictConfig, folder: Path) -> Path:
    """Pin what the jobs must not compose differently; returns the absolute path of the sweep's folder.

    The URL of the storage is pinned without its password, so that no trial's `.hydra/hydra.yaml` holds it, and `trial`
    is left out of `hydra.job.override_dirname`.
    """
    absolute = folder.expanduser().resolve()
    pin(config, _KEY, str(absolute))
    storage = config.hydra.sweeper.get("storage")
    if isinstance(storage, str) and take_password(storage) != storage:
        pin(config, "hydra.sweeper.storage", take_password(storage))
    dirname = config.hydra.job.config.override_dirname
    pin(config, "hydra.job.config.override_dirname.exclude_keys", [*dirname.exclude_keys, "trial"])
    return absolute


def occupy(folder: Path, study: str, storage: str) -> None:
    """Record the study that the folder belongs to.

    Raises:
        ConfigError: If it belongs to another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = {"study": study, "storage": storage}
    try:
        with (folder / STUDY).open("x", encoding="utf-8") as file:
            json.dump(mine, file)
        return
    except FileExistsError:
        pass
    try:
        found = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return  # another process of this study is writing it
    if found.get("study") != study:
        expected = (
            f"the folder holds the study {found.get('study')!r}, and this is {study!r}. "
            f"Choose another {_KEY}, or hydra.sweeper.study_name={found.get('study')} to resume that one"
        )
        raise ConfigError([Problem(_KEY, expected, repr(str(folder)))])


def record(folder: Path, study: str, storage: str, objectives: Sequence[str]) -> None:
    """Record the names under which the folder's study measured its objectives."""
    replace_json(folder / STUDY, {"study": study, "storage": storage, "objectives": list(objectives)})


def refuse_orphans(folder: Path) -> None:
    """Refuse a folder with trials where the study has none: its storage was deleted or is another one.

    Raises:
        ConfigError: If there are any.
    """
    found = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob(MANIFEST))
    if found:
        expected = f"the folder holds trials ({', '.join(found[:5])}) that the study's storage does not know"
        raise ConfigError([Problem(_KEY, expected + "; choose another folder", repr(str(folder)))])


def mark(folder: Path, outcome: Outcome) -> None:
    """Write the reason and traceback of a failed trial into its folder, also where its process could not."""
    if not outcome.reason:
        return
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "traceback.txt"
    if not trace.is_file() and not outcome.lost:
        trace.write_text(f"{outcome.reason}\n\n{outcome.traceback}".rstrip() + "\n", encoding="utf-8")
    try:
        manifest = read_manifest(folder)
    except RunFolderError:
        return
    if manifest.get("status") == "running":
        status = "interrupted" if outcome.lost else "failed"
        replace_json(folder / MANIFEST, {**manifest, "status": status, "error": outcome.reason})


def slug(text: str) -> str:
    """A text without the characters that file names should not have."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
