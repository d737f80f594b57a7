"""Images a second of the input pipeline by workers and cache, and of whole epochs with it."""

import contextlib
import io
import os
import time
import warnings
from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader

from gpu.bench import Variant, crops, our_trainer
from gpu.step import Step
from watchme.engines.osnet.data.loader import stop_workers


def run(step: Step) -> None:
    """Epochs as a user has them, with the default workers; then loaders alone."""
    tiny, cuda = step.setting.tiny, step.setting.cuda
    batch = 8 if tiny else 64
    seconds = 1.0 if tiny else 1.5
    epochs: dict[str, Any] = {}
    for cache in ("none", "gpu") if cuda else ("none",):
        with step.part(f"an epoch, cache={cache}"):
            epochs[f"cache={cache}"] = _epoch(step, batch, cache)
            step.fact("epoch", epochs)
    rates: dict[str, float] = {}
    counts = [1] if tiny else [each for each in (4, 12) if each <= (os.cpu_count() or 1)]
    for cache in ("none", "ram"):
        for workers in counts:
            with step.part(f"loader, {workers} workers, cache={cache}"):
                overrides: tuple[str, ...] = (f"train.workers={workers}", f"dataset.cache={cache}")
                trainer = our_trainer(step.setting, Variant(batch, overrides), loaded=False)
                rates[f"watchme, {workers} workers, cache={cache}"] = _rate(trainer.loader, batch, seconds)
                stop_workers(trainer.loader)
                step.fact("images_per_s", rates)
    with step.part("torchreid's loader"):
        workers = counts[0]
        rates[f"torchreid, {workers} workers"] = _rate(_torchreids(step, batch, workers), batch, seconds)
        step.fact("images_per_s", rates)
    step.check("the loader gives batches", bool(rates) and all(rates.values()), rates)


def _epoch(step: Step, batch: int, cache: str) -> dict[str, float]:
    """Timings of the second epoch, in bf16 on a GPU: the first one starts the workers."""
    tiny = step.setting.tiny
    precision = ["train.precision=bf16"] if step.setting.cuda else []
    overrides = (*precision, f"dataset.cache={cache}", *(["train.workers=2"] if tiny else []))
    trainer = our_trainer(step.setting, Variant(batch, overrides), loaded=False)
    few: Any = trainer.batches
    few.batches = few.batches[: 3 if tiny else 60]
    few.set_epoch = lambda epoch: None
    timings = [trainer.train_epoch(epoch)[1] for epoch in (1, 2)][-1]
    stop_workers(trainer.loader)
    return timings


def _rate(loader: Iterable[Any], batch: int, seconds: float) -> float:
    """Images a second after the first batches."""
    count, start = 0, time.perf_counter()
    for number, _ in enumerate(loader):
        if number == 2:
            count, start = 0, time.perf_counter()
        count += 1
        if number > 2 and time.perf_counter() - start > seconds:
            break
    return round((count - 1) * batch / (time.perf_counter() - start), 1)


def _torchreids(step: Step, batch: int, workers: int) -> "DataLoader[Any]":
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from torchreid.reid.data.datasets.dataset import ImageDataset
        from torchreid.reid.data.transforms import build_transforms

        height, width = (64, 32) if step.setting.tiny else (256, 128)
        transform = build_transforms(height, width, ["random_flip", "random_crop"])[0]
    items = [(str(crop.path), crop.pid, crop.cam) for crop in crops(step.setting, batch * 64)]
    dataset = ImageDataset(items, items, items, transform=transform, mode="train", verbose=False)
    return DataLoader(dataset, batch, shuffle=True, num_workers=workers, drop_last=True, pin_memory=step.setting.cuda)
