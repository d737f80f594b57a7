"""The sweep's folder: that it belongs to one study, that its trials find it, and what is left of broken trials.

<sweep dir>/<number>   a trial's run folder      study.db      the study, by default
leaderboard.csv        the trials, best first    study.json    which study the folder belongs to
experiment/best.yaml   retrains the winner       report/       pictures and page
"""

import json
import re
from pathlib import Path

from omegaconf import DictConfig, open_dict, read_write

from watchme.core.errors import ConfigError, Problem, RunFolderError
from watchme.io.files import replace_json
from watchme.run.run_dir import MANIFEST, read_manifest
from watchme.sweep.study import Outcome

STUDY = "study.json"
_KEY = "hydra.sweep.dir"


def pin(config: DictConfig, folder: Path) -> Path:
    """Give the sweep and each of its jobs, which compose anew, the same folder."""
    absolute = folder.expanduser().resolve()
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(absolute)
        config.hydra.overrides.hydra.append(f"{_KEY}={json.dumps(str(absolute))}")
    return absolute


def occupy(folder: Path, study: str, storage: str) -> None:
    """Write down which study the folder belongs to.

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
            f"Choose another {_KEY}, or hydra.sweeper.study_name={found.get('study')} to go on with that one"
        )
        raise ConfigError([Problem(_KEY, expected, repr(str(folder)))])


def refuse_orphans(folder: Path) -> None:
    """Refuse a folder with trials where the study has none: its storage was deleted or is another one.

    Raises:
        ConfigError: If there are any.
    """
    found = sorted(path.name for path in folder.iterdir() if path.name.isdigit() and (path / MANIFEST).is_file())
    if found:
        expected = f"the folder holds trials ({', '.join(found[:5])}) that the study's storage does not know"
        raise ConfigError([Problem(_KEY, expected + "; choose another folder", repr(str(folder)))])


def mark(folder: Path, outcome: Outcome) -> None:
    """Leave a broken trial's reason and traceback in its folder, also where it could not do so itself."""
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
    """A text as it may stand in a file's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
