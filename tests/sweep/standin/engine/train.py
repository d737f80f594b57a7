"""The stand-in engine."""

import json
import math
import os
import random
import signal
import time
from pathlib import Path
from typing import cast

from watchme.engines.standin.config import Config

from watchme.core.interfaces import EpochEvent, Job, Result


def train(job: Job) -> Result:
    """Train."""
    config = cast(Config, job.config)
    job.record("visible_gpus", os.environ.get("CUDA_VISIBLE_DEVICES"))
    job.record("threads", os.environ.get("OMP_NUM_THREADS"))
    weights = job.folder / "weights"
    weights.mkdir(exist_ok=True)
    files = {name: weights / f"{name}.pt" for name in ("best", "last")}
    number = config.trial.number if config.trial else 0
    name = "val_same_camera/map" if number in config.model.one_camera else "val/map"
    best, best_epoch, epoch = math.nan, 0, 0
    for epoch in range(1, config.train.epochs + 1):
        time.sleep(config.model.epoch_s)
        value = height(config) * (1 - math.exp(-epoch / (0.2 * config.train.epochs + 1)))
        if epoch == config.model.fault_epoch and breaks(config):
            value = fault(config, value)
        if math.isnan(best) or value > best:
            best, best_epoch = value, epoch
        stop = job.emit(EpochEvent(epoch, config.train.epochs, {name: value}, is_best=best_epoch == epoch))
        for file in files.values():
            file.write_text(str(epoch))
        if stop is not None:
            break
    wait_for_others(job.folder, config)
    objective = math.nan if breaks(config) and config.model.fault == "undefined" else best
    metrics = {name: objective, "val/rank1": 1 - abs(math.log10(config.optimizer.lr) + 3) / 4}
    return Result(metrics, objective, best_epoch, epoch, files)


def wait_for_others(folder: Path, config: Config) -> None:
    """Trial 0 outlasts `model.waits_for` others, however slow the machine is; two minutes at most.

    Those of sweeps in folders beside this one's count, too.
    """
    if config.trial is None or config.trial.number != 0:
        return
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        others = [file for file in folder.parent.parent.glob("*/*/run.json") if file.parent != folder]
        if sum(json.loads(file.read_text())["status"] == "finished" for file in others) >= config.model.waits_for:
            return
        time.sleep(0.02)


def breaks(config: Config) -> bool:
    """Whether this trial is one that breaks."""
    model, number = config.model, config.trial.number if config.trial else -1
    chosen = not model.fault_trials or number in model.fault_trials
    return model.fault != "none" and config.optimizer.lr > model.fault_above and chosen


def fault(config: Config, value: float) -> float:
    """Break."""
    kind = config.model.fault
    if kind == "exception":
        raise ZeroDivisionError("division by zero")
    if kind == "memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if kind == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(7)
    return math.nan if kind == "undefined" else value


def height(config: Config) -> float:
    """Where the curve leads: highest at `best_lr`, with a little noise that the parameters fix."""
    noise = random.Random(f"{config.optimizer.lr}{config.train.batch_size}{config.train.seed}").random()
    distance = math.log10(config.optimizer.lr / config.model.best_lr)
    return 0.9 * math.exp(-0.5 * distance**2) - 0.0005 * config.train.batch_size + 0.01 * noise
