"""Resuming a YOLO run: what its checkpoint holds, which values may change, and the metrics of best.pt.

ultralytics restores model, optimizer and epoch, but takes most arguments from the checkpoint and only warns of those
that it ignores. It does not restore random states, so a resumed run is not bit-equal to an uninterrupted one.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchme.core.errors import CheckpointError, ConfigError, Problem
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.arguments import MAPPED
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.metric_names import canonical_metrics
from watchme.io.files import read_json, replace_text, replacing
from watchme.io.metrics_log import metrics_of, read_metrics
from watchme.io.run_lookup import METRICS

# What ultralytics lets change when a run is resumed, and `amp`, which `WatchmeTrainer.check_resume` sets again.
_CHANGEABLE = frozenset(
    [
        "amp",
        "batch",
        "cache",
        "channels_last",
        "close_mosaic",
        "device",
        "distill_model",
        "freeze",
        "imgsz",
        "plots",
        "save_period",
        "time",
        "workers",
    ]
)
# The same where all epochs are trained: with others the run's config would say what it was not trained with.
_OF_EVALUATION = frozenset(["amp", "cache", "channels_last", "plots", "workers"])
# Place and kind of the run rather than its training; `_identity` holds those of them that must not change.
_PLACE = frozenset(
    ["data", "device", "mode", "model", "patience", "pretrained", "resume", "save_dir", "split", "task", "verbose"]
)
_KEPT = "a resumed run keeps its {!r}; start a new one from its weights to change it"
_IDENTITY = Path("yolo", "identity.json")


@dataclass(frozen=True)
class EarlierRun:
    """State of a run before it is resumed."""

    checkpoint: Path  # file that it is resumed from
    epoch: int  # last epoch in the checkpoint, from 1
    best_epoch: int | None  # epoch of weights/best.pt
    best_metrics: Mapping[str, float]  # canonical metrics of that epoch
    trained: bool = False  # whether no epoch is left, and only the final evaluation is missing


def write_identity(folder: Path, config: Config, names: list[str]) -> None:
    """Write into the run folder what a resumed run must have in common with this one."""
    replace_text(folder / _IDENTITY, json.dumps(_identity(config, names)))


def read_checkpoint(folder: Path, config: Config, names: list[str], wanted: Mapping[str, Any]) -> EarlierRun:
    """Check that a run can be resumed as asked, and return its state.

    A best.pt of an epoch after the checkpoint belongs to epochs that are trained again; it is replaced by the
    checkpoint.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or is of a finished run that is to train longer.
        ConfigError: If a value was changed that ultralytics would silently take from the checkpoint.
    """
    assert config.train.resume is not None
    path = Path(config.train.resume).expanduser().resolve()
    checkpoint = path / "weights" / "last.pt" if path.is_dir() else path
    _, content = weights.load(checkpoint)
    epoch = int(content.get("epoch", -1)) + 1
    saved = content.get("train_args", {})
    if content.get("optimizer") is None or epoch < 1:
        earlier = _trained_run(folder, checkpoint)
        _refuse_changes(folder, config, names, saved, wanted, _OF_EVALUATION)
        _restore_best(folder, earlier)
        return earlier
    trained = epoch >= config.train.epochs
    _refuse_changes(folder, config, names, saved, wanted, _OF_EVALUATION if trained else _CHANGEABLE)
    best = folder / "weights" / "best.pt"
    best_content = weights.load(best)[1] if best.is_file() else {}
    best_epoch = int(best_content.get("epoch", -1)) + 1
    if not 1 <= best_epoch <= epoch:
        with replacing(best) as temporary:
            shutil.copyfile(checkpoint, temporary)
        best_content, best_epoch = content, epoch
    _drop_rows(folder / "yolo" / "results.csv", epoch)
    logged = {line["epoch"]: metrics_of(line) for line in read_metrics(folder / METRICS)}
    # The checkpoint has no losses; it counts where the log is lost.
    metrics = logged.get(best_epoch) or canonical_metrics(best_content.get("train_metrics") or {}, "val")
    return EarlierRun(checkpoint, epoch, best_epoch, metrics, trained)


def _trained_run(folder: Path, checkpoint: Path) -> EarlierRun:
    """State of a run that was killed after its last epoch, when ultralytics had dropped the optimizer's state.

    Raises:
        CheckpointError: If the run has finished, or has no record of its epochs.
    """
    lines = [line for line in read_metrics(folder / METRICS) if line["epoch"] > 0]
    if read_json(folder / "run.json").get("status") == "finished" or not lines:
        raise CheckpointError(
            f"{checkpoint} is of a run that has finished, and ultralytics drops the optimizer's state at the end, so "
            f"that it cannot be trained on.\n    To start from its weights: model.weights={checkpoint}"
        )
    best = next((line for line in reversed(lines) if line.get("is_best")), lines[-1])
    return EarlierRun(checkpoint, lines[-1]["epoch"], best["epoch"], metrics_of(best), trained=True)


def _restore_best(folder: Path, earlier: EarlierRun) -> None:
    """Make a best.pt that is lost of last.pt, where that is of the best epoch."""
    best = folder / "weights" / "best.pt"
    if best.is_file():
        return
    if earlier.best_epoch != earlier.epoch:
        raise CheckpointError(
            f"{best} is lost, and {earlier.checkpoint.name} is of epoch {earlier.epoch} where the best one was "
            f"{earlier.best_epoch}: there is nothing to evaluate.\n"
            f"    To start from the last epoch's weights: model.weights={earlier.checkpoint}"
        )
    with replacing(best) as temporary:
        shutil.copyfile(earlier.checkpoint, temporary)


def _drop_rows(results: Path, epoch: int) -> None:
    """Drop the rows after `epoch` from ultralytics' results.csv, which it writes before the checkpoint."""
    if not results.is_file():
        return
    head, *rows = results.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if int(float(row.split(",")[0])) <= epoch]
    replace_text(results, "".join([head, *kept]))


def _identity(config: Config, names: list[str]) -> dict[str, Any]:
    return {"objective": config.objective, "model.name": config.model.name, "dataset.classes": names}


def _refuse_changes(
    folder: Path,
    config: Config,
    names: list[str],
    saved: Mapping[str, Any],
    wanted: Mapping[str, Any],
    changeable: frozenset[str],
) -> None:
    # ultralytics itself writes other values of these into a checkpoint than it was given.
    rewritten = {"warmup_bias_lr", "lr0", "momentum"} if wanted["optimizer"] == "auto" else set()
    rewritten |= {"epochs"} if wanted.get("time") else set()
    rewritten |= {"max_det"} if saved.get("max_det", 0) > wanted["max_det"] else set()
    problems = [
        Problem(MAPPED.get(name, f"model.args.{name}"), _KEPT.format(saved[name]), repr(value))
        for name, value in wanted.items()
        if name not in changeable | _PLACE | rewritten and name in saved and saved[name] != value
    ]
    path = folder / _IDENTITY
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    problems += [
        Problem(key, _KEPT.format(before[key]), repr(now))
        for key, now in _identity(config, names).items()
        if key in before and before[key] != now
    ]
    if problems:
        raise ConfigError(problems)
