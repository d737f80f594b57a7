"""Resume of an OSNet run: which checkpoint `train.resume` means, what it is refused for, and its state put back."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchme.core.errors import CheckpointError, ConfigError, Problem
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.trainer import BestEpoch, Trainer
from watchme.io.checkpoint import load_checkpoint, save_checkpoint
from watchme.io.files import read_yaml
from watchme.io.run_lookup import CONFIG, folder_of, manifest_of

log = logging.getLogger(__name__)


def resume(trainer: Trainer, path: Path) -> None:
    """Make a trainer go on after the epoch of a checkpoint, bit for bit as if it had not stopped.

    Args:
        trainer: A new one, of the same config but for what may change on the way, e.g. `train.epochs`.
        path: A run folder or one of its checkpoints.

    Raises:
        CheckpointError: If it holds no training state, or that of another model, optimizer or set of identities.
        ConfigError: If all epochs are trained, with other values than the config has.
    """
    path = checkpoint_of(path)
    content = _read(path, trainer.config.train.epochs)
    state = content["training"]
    if state["identities"] != trainer.identities:
        raise CheckpointError(
            f"{path} was trained on {len(state['identities'])} identities that are not the "
            f"{len(trainer.identities)} of this run: the dataset, dataset.val_identities or train.seed (there "
            f"{state['seed']}) has changed.\n    Start a new run from its weights with model.weights={path}"
        )
    try:
        trainer.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit this run's model, loss or optimizer: {error}") from error
    trainer.start = int(content["epoch"])
    if trainer.stopped or trainer.start >= trainer.config.train.epochs:
        _refuse_changes(trainer.config, path)
    if trainer.group.is_leader and not _restore_best(trainer.checkpoints.folder, content, trainer.best.epoch):
        trainer.best = BestEpoch()


def _refuse_changes(config: Config, path: Path) -> None:
    """Raise a `ConfigError` where a run whose epochs are all trained would be recorded with other values of them."""
    folder = folder_of(path)
    saved = read_yaml(folder / CONFIG) if folder is not None else {}
    now = dataclasses.asdict(config)
    kept = [(section, key) for section in ("optimizer", "scheduler", "loss", "augmentation") for key in now[section]]
    problems = []
    for section, key in [*kept, ("dataset", "height"), ("dataset", "width")]:
        before = saved.get(section)
        if isinstance(before, dict) and key in before and not _same(before[key], now[section][key]):
            expected = f"all epochs are trained with {before[key]!r}; a new run goes on by model.weights={path}"
            problems.append(Problem(f"{section}.{key}", expected, repr(now[section][key])))
    if problems:
        raise ConfigError(problems)


def _same(before: object, now: object) -> bool:
    """Whether a value is that of a yaml, where a tuple is a list."""
    return before == now or json.dumps(before, default=str) == json.dumps(now, default=str)


def checkpoint_of(path: Path) -> Path:
    """The file that `train.resume` means: a checkpoint itself, or the last one of a run folder."""
    return path / "weights" / "last.pt" if path.is_dir() else path


def precision_before(path: Path) -> tuple[str | None, str]:
    """The precision in which the run that is resumed has trained, and on what: cpu, cuda or mps; None if unknown."""
    folder = folder_of(path)
    device = (manifest_of(folder).get("device") or {}) if folder is not None else {}
    precision, devices = device.get("precision"), device.get("devices")
    first = str(devices[0]) if isinstance(devices, list) and devices else ""
    return precision if precision in ("fp32", "fp16", "bf16") else None, first.partition(":")[0]


def _read(path: Path, epochs: int) -> dict[str, Any]:
    """The content of a checkpoint that training can go on from, up to `epochs`."""
    content = load_checkpoint(path)
    if not isinstance(content.get("training"), dict):
        raise CheckpointError(f"{path} holds weights alone; resume from last.pt, or use model.weights={path}")
    if int(content["epoch"]) > epochs:
        raise CheckpointError(f"{path} is of epoch {content['epoch']}, beyond train.epochs={epochs}; raise it")
    return content


def _restore_best(folder: Path, resumed: Mapping[str, Any], best_epoch: int) -> bool:
    """Make best.pt be of the epoch that the resumed checkpoint's content names as the best.

    It cannot for an older checkpoint, or in another folder: those weights are gone. Returns whether it did.
    """
    best = folder / "best.pt"
    found = int(load_checkpoint(best)["epoch"]) if best.is_file() else 0
    if found == best_epoch:
        return True
    if best_epoch == resumed["epoch"]:
        save_checkpoint(best, {name: value for name, value in resumed.items() if name != "training"})
        return True
    log.warning("No best.pt of epoch %d is here; the best epoch is chosen again", best_epoch)
    best.unlink(missing_ok=True)
    return False
