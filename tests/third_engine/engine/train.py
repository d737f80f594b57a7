"""The constant engine."""

import math
import os
import signal
from typing import cast

from watchme.engines.constant.config import Config

from watchme.core.errors import DataError
from watchme.core.interfaces import EpochEvent, Job, Result


def train(job: Job) -> Result:
    """Walk along the curve."""
    config = cast(Config, job.config)
    if config.model.refuse:
        raise DataError("the constant engine refuses this")
    weights = job.folder / "weights"
    last = weights / "last.pt"
    best, best_epoch, epoch, start = math.nan, 0, 0, 0
    if config.train.resume:
        start = int(last.read_text())
        job.resumed(start)
    job.begin()
    weights.mkdir(exist_ok=True)
    if config.model.before is not None and not start:
        job.emit(EpochEvent(0, config.train.epochs, {"val/map": config.model.before}))
    for epoch in range(start + 1, config.train.epochs + 1):
        if epoch == config.model.fail_at:
            raise ZeroDivisionError("division by zero")
        value = config.model.curve[epoch - 1]
        if not value <= best:
            best, best_epoch = value, epoch
        stop = job.emit(EpochEvent(epoch, config.train.epochs, {"val/map": value}, is_best=best_epoch == epoch))
        if epoch == config.model.kill_at:
            os._exit(9)
        last.write_text(str(epoch))
        if epoch == config.model.interrupt_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if stop is not None:
            break
    return Result({"val/map": best}, best, best_epoch, epoch, {"best": last, "last": last})
