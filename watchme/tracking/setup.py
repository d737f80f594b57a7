"""What the tracking process must know of a run, and whether W&B is to be online. Imports nothing heavy."""

import configparser
import netrc
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from watchme.config.schema import RunConfig

if TYPE_CHECKING:  # the tracking process does without what it imports
    from watchme.run.run_dir import RunFolder

DEFAULT_SERVER = "https://api.wandb.ai"
DEFAULT_PROJECT = "watchme-training"
_PROBE_S = 5.0
# Logged every `tracker.every` steps, over the number of steps since the start.
STEP_METRICS = ("step/loss", "step/lr", "step/images_per_s")


@dataclass(frozen=True)
class WandbSetup:
    """How W&B is to be started."""

    id: str  # id of the W&B run; a resumed run keeps its own
    mode: Literal["online", "offline"]  # online or offline; `auto` has been decided
    name: str  # name shown in W&B
    group: str | None  # study of a sweep's trial, or what the config says
    job_type: str  # `train` or `evaluate`, or what the config says
    project: str  # W&B project
    entity: str | None = None  # W&B team or user; None leaves it to W&B
    tags: list[str] = field(default_factory=list)  # W&B tags
    notes: str | None = None  # W&B notes; None leaves them to WANDB_NOTES
    # As in TrackerConfig
    code: bool = True
    console: bool = True
    weights: bool = True
    dataset: str = "reference"
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """What the tracking process gets first."""

    folder: str  # the run folder
    objective: str  # canonical name of the metric that the run selects on
    pid: int  # the training process, whose system metrics W&B samples
    argv: list[str]  # its command line, for W&B's overview
    trial: dict[str, Any] | None  # study, number and keys of the parameters of the Optuna trial that the run is
    images: int  # pictures that are logged of each kind and epoch
    charts: bool  # whether tables for charts are logged
    tensorboard: bool  # whether to write TensorBoard event files
    wandb: WandbSetup | None  # how to start W&B, or None


def make_setup(config: RunConfig, record: "RunFolder", *, wandb: bool) -> Setup:
    """Gather what the tracking process needs, and write W&B's run id and mode into the manifest."""
    trial = config.trial
    return Setup(
        folder=str(record.path),
        objective=config.objective,
        pid=os.getpid(),
        argv=list(sys.argv),
        trial=None
        if trial is None
        else {
            "study": trial.study,
            "number": trial.number,
            "parameters": parameter_keys(trial.parameters, record.manifest.get("choices") or {}),
        },
        images=config.tracker.images,
        charts=config.tracker.charts,
        tensorboard=config.tracker.tensorboard,
        wandb=_wandb_setup(config, record) if wandb else None,
    )


def parameter_keys(names: Iterable[str], choices: Mapping[str, Any]) -> list[str]:
    """Where W&B's config has what a sweep varies: values under their own keys, options of groups under `choices`.

    >>> parameter_keys(["optimizer.lr", "augmentation"], {"augmentation": "yolo"})
    ['optimizer.lr', 'choices.augmentation']
    """
    return [f"choices.{name}" if name in choices else name for name in names]


def _tags(config: RunConfig, record: "RunFolder") -> list[str]:
    """The config's tags or those of WANDB_TAGS, and what runs are filtered by: engine, model, dataset, mode, branch."""
    own = list(config.tracker.tags) or os.environ.get("WANDB_TAGS", "").split(",")
    branch = str((record.manifest.get("git") or {}).get("branch") or "")
    found = [*own, config.model.engine, config.model.name, config.dataset.name, config.mode, branch]
    # W&B refuses tags that are empty or longer than 64 characters.
    return list(dict.fromkeys(tag.strip()[:64] for tag in found if tag.strip()))


def _wandb_setup(config: RunConfig, record: "RunFolder") -> WandbSetup:
    tracker, trial = config.tracker, config.trial
    mode = tracker.mode
    if mode not in ("online", "offline"):
        mode = "online" if has_key() else "offline"
    known = record.manifest.get("wandb", {})
    run_id = known.get("id") or secrets.token_hex(4)
    record.record("wandb", {**known, "id": run_id, "mode": mode, "project": tracker.project})
    return WandbSetup(
        id=run_id,
        mode="online" if mode == "online" else "offline",
        name=f"{trial.study}-trial{trial.number}" if trial else os.environ.get("WANDB_NAME", record.path.name),
        group=tracker.group or (trial.study if trial else None),
        job_type=tracker.job_type or os.environ.get("WANDB_JOB_TYPE", config.mode),
        project=tracker.project,
        entity=tracker.entity,
        tags=_tags(config, record),
        notes=tracker.notes,
        code=tracker.code,
        console=tracker.console,
        weights=tracker.weights,
        dataset=tracker.dataset,
        alerts=tuple(tracker.alerts),
    )


def has_key() -> bool:
    """Whether a W&B key is set for the server in use: by variable, token file, or netrc. Asks nobody."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(server()).hostname or ""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).hosts.get(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def server() -> str:
    """Address of the W&B server: WANDB_BASE_URL, `wandb login --host`'s settings file, or the public one."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url
    folder = Path(os.environ.get("WANDB_CONFIG_DIR", Path.home() / ".config" / "wandb"))
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(folder / "settings")
        return settings.get("default", "base_url", fallback=DEFAULT_SERVER)
    except (configparser.Error, OSError):
        return DEFAULT_SERVER


def probe(url: str) -> None:
    """Ask whether a server answers at all, so that one that hangs costs seconds.

    Raises:
        ConnectionError: If it does not.
    """
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(url, timeout=_PROBE_S).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise ConnectionError(f"{url} answers {error.code} {error.reason}") from None
    except (OSError, ValueError, ImportError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"{url} does not answer: {reason}") from None
