"""A loop's checkpoints: what best.pt and last.pt hold, and how a killed run is taken up exactly where it was.

state_dict, epoch, arch, num_classes, metrics   the weights, in torchreid's names: all that others need
neck                                            the BNNeck, where there is one
training                                        in last.pt and epochNNNN.pt: the rest of the loop's state
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchme.core.errors import CheckpointError
from watchme.core.seed import restore_rng_state, rng_state
from watchme.io.checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from watchme.engines.osnet.trainer import Loop

log = logging.getLogger(__name__)


def save(loop: Loop, epoch: int, metrics: dict[str, float], *, better: bool) -> None:
    """Write last.pt, then best.pt where `better`, and every `train.save_period` epochs a copy that is kept.

    A kill between the two leaves a last.pt that says it is the best, from which `restore` makes best.pt.
    """
    train = loop.config.train
    head = {
        "epoch": epoch,
        "arch": loop.config.model.name,
        "num_classes": loop.plain.backbone.classifier.out_features,
        "metrics": {name: float(value) for name, value in metrics.items()},
        "state_dict": loop.evaluated.backbone.state_dict(),
    }
    if loop.evaluated.neck is not None:
        head["neck"] = loop.evaluated.neck.state_dict()
    full = {**head, "training": _training(loop)}
    save_checkpoint(loop.weights / "last.pt", full)
    if better:
        save_checkpoint(loop.weights / "best.pt", head)
    if train.save_period and epoch % train.save_period == 0:
        save_checkpoint(loop.weights / f"epoch{epoch:04d}.pt", full)
        for old in sorted(loop.weights.glob("epoch*.pt"))[: -train.keep_last]:
            old.unlink()


def _training(loop: Loop) -> dict[str, Any]:
    scaler = loop.accelerator.scaler
    return {
        "model": loop.plain.state_dict(),
        "criterion": loop.criterion.state_dict(),
        "steps": loop.steps,
        "ema": loop.ema.state_dict() if loop.ema is not None else None,
        "optimizer": loop.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "rng": rng_state(),
        "stopped": _stop_conditions(loop) if loop.stopped else None,
        "identities": loop.identities,
        "seed": loop.config.train.seed,
        "best": loop.best,
        "best_epoch": loop.best_epoch,
        "best_metrics": {name: float(value) for name, value in loop.best_metrics.items()},
    }


def restore(loop: Loop, path: Path) -> None:
    """Take up a run where its checkpoint left it.

    Schedule and sampler have no state: they follow from the epoch and the seed.

    Args:
        loop: A loop that has not run yet.
        path: A run folder or one of its checkpoints.

    Raises:
        CheckpointError: If it holds no training state, or that of another model, optimizer or set of identities.
    """
    path = path / "weights" / "last.pt" if path.is_dir() else path
    content = load_checkpoint(path)
    state: Any = content.get("training")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds weights alone; resume from last.pt, or use model.weights={path}")
    epoch, epochs = int(content["epoch"]), loop.config.train.epochs
    if epoch > epochs:
        raise CheckpointError(f"{path} is of epoch {epoch}, beyond train.epochs={epochs}; raise it")
    if state["identities"] != loop.identities:
        raise CheckpointError(
            f"{path} was trained on {len(state['identities'])} identities that are not the {len(loop.identities)} of "
            f"this run: the dataset, dataset.val_identities or train.seed (there {state['seed']}) has changed.\n"
            f"    Start a new run from its weights with model.weights={path}"
        )
    try:
        loop.plain.load_state_dict(state["model"])
        if loop.ema is not None:
            loop.ema.load_state_dict(state["ema"] or state["model"])
        loop.criterion.load_state_dict(state.get("criterion", {}))
        loop.optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit this run's model, loss or optimizer: {error}") from error
    if loop.accelerator.scaler is not None and state["scaler"]:
        loop.accelerator.scaler.load_state_dict(state["scaler"])
    restore_rng_state(state["rng"])
    loop.start, loop.steps = epoch, int(state.get("steps", 0))
    # Ended after its last epoch or an early stop: only the final evaluation is left, unless conditions changed.
    loop.stopped = state["stopped"] is not None and state["stopped"] == _stop_conditions(loop)
    loop.best, loop.best_epoch = float(state["best"]), int(state["best_epoch"])
    loop.best_metrics = dict(state["best_metrics"])
    if loop.team.leads:
        _make_best_fit(loop, content)


def _stop_conditions(loop: Loop) -> dict[str, Any]:
    """What an early stop hangs on; a run resumed with other values trains on."""
    train = loop.config.train
    return {"epochs": train.epochs, "patience": train.patience, "objective": loop.config.objective}


def _make_best_fit(loop: Loop, content: dict[str, Any]) -> None:
    """Let best.pt be of the epoch that the restored state calls the best."""
    best = loop.weights / "best.pt"
    held = int(load_checkpoint(best)["epoch"]) if best.is_file() else 0
    if held == loop.best_epoch:
        return
    if loop.best_epoch == loop.start:
        save_checkpoint(best, {name: value for name, value in content.items() if name != "training"})
        return
    # Taken up from an older checkpoint, or in another folder: the weights of that epoch are nowhere.
    log.warning("No best.pt of epoch %d is here; the best epoch is chosen anew", loop.best_epoch)
    best.unlink(missing_ok=True)
    loop.best, loop.best_epoch, loop.best_metrics = math.nan, 0, {}
