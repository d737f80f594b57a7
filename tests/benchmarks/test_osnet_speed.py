"""OSNet's training epoch and input pipeline against torchreid's own, as ratios of one run on the same real people.

nice pytest tests/benchmarks/test_osnet_speed.py -m benchmark -s
"""

import contextlib
import copy
import functools
import io
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from watchme.core.device import choose_precision
from watchme.core.seed import seed_everything
from watchme.data.formats.market1501 import Crop, read_market
from watchme.engines.osnet.config import Config, ReidAugmentation
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.loader import TrainSet, stop_workers
from watchme.engines.osnet.data.sampler import Draw
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.trainer import Trainer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its Cython ranking is not built
    from torchreid.reid.data.datasets.dataset import ImageDataset
    from torchreid.reid.data.sampler import RandomIdentitySampler
    from torchreid.reid.data.transforms import build_transforms
    from torchreid.reid.engine import ImageTripletEngine
    from torchreid.reid.utils import read_image

pytestmark = [pytest.mark.benchmark, pytest.mark.real]
SIZE = (256, 128)
IMAGES, BATCH, WORKERS = 256, 32, 2


@pytest.fixture(scope="module")
def crops(real_data: Path) -> list[Crop]:
    return list(read_market(real_data / "market1501_mini").train)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def torchreids_transforms() -> Callable[..., torch.Tensor]:
    with contextlib.redirect_stdout(io.StringIO()):
        return build_transforms(*SIZE, ["random_flip", "random_crop"])[0]  # type: ignore[no-any-return]


def show(rates: dict[str, float]) -> float:
    """Print a table; returns how much faster ours is."""
    base = rates["torchreid"]
    print("\n" + "\n".join(f"{name:16s} {rate:8.1f} images/s {rate / base:6.2f}" for name, rate in rates.items()))
    return rates["watchme"] / base


def test_input_pipeline_is_three_times_as_fast(crops: list[Crop], one_thread: None) -> None:
    """What a worker does: the guide's augmentation at 256x128, images in memory (dataset.cache=ram)."""
    reference = torchreids_transforms()
    config = ReidAugmentation(engine="osnet", random_flip=0.5, random_crop=0.5)
    dataset = TrainSet(Images(crops, SIZE, "ram"), {crop.pid: 0 for crop in crops}, config)
    starts = range(0, len(crops) - BATCH + 1, BATCH)

    def theirs() -> None:
        for start in starts:
            torch.stack([reference(read_image(str(crop.path))) for crop in crops[start : start + BATCH]])

    def ours() -> None:
        for start in starts:
            dataset.__getitems__([Draw(place, 0, 1, place) for place in range(start, start + BATCH)])

    best = {"torchreid": float("inf"), "watchme": float("inf")}
    for _ in range(9):
        for name, work in (("torchreid", theirs), ("watchme", ours)):
            # Processor time of the one thread, which other work on the machine disturbs less.
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    assert show({name: len(starts) * BATCH / each for name, each in best.items()}) >= 3


def test_training_epoch_is_faster_than_torchreids(
    crops: list[Crop], typed_config: Callable[..., Config], tmp_path: Path
) -> None:
    """osnet_x1_0 at 256x128, batch 32 of 4 instances, the guide's losses and optimizer, images from disk.

    In fp32, as torchreid computes on a CPU, and in what train.precision=auto takes on this one.
    """
    crops = crops[:IMAGES]
    classes = {pid: place for place, pid in enumerate(sorted({crop.pid for crop in crops}))}
    config = typed_config(
        "experiment=osnet_basic",
        "model.name=osnet_x1_0",
        "model.pretrained=false",
        f"dataset.root={crops[0].path.parents[1]}",
        f"train.batch_size={BATCH}",
        f"train.workers={WORKERS}",
        "train.device=cpu",
    )
    seed_everything(0, deterministic=True)
    model = ReidNet(config.model.name, len(classes))
    engine = torchreids_engine(config, model, crops, classes)
    dataset = TrainSet(Images(crops, SIZE, "none"), classes, config.augmentation)
    cpu = torch.device("cpu")

    def trainer(precision: str, net: ReidNet) -> Trainer:
        return Trainer(config, net, dataset, None, lambda event: None, tmp_path, cpu, precision, ProcessGroup())

    chosen = choose_precision("auto", cpu)
    trainers = {f"watchme {chosen}": trainer(chosen, copy.deepcopy(model)), "watchme": trainer("fp32", model)}

    def theirs(epoch: int) -> int:
        engine.epoch, engine.seen = epoch - 1, 0
        with contextlib.redirect_stdout(io.StringIO()):
            engine.train(print_freq=10**6)
        return engine.seen

    def ours(trainer: Trainer, epoch: int) -> int:
        trainer.train_epoch(epoch)
        return len(trainer.batches)

    works: dict[str, Callable[[int], int]] = {"torchreid": theirs}
    works |= {name: functools.partial(ours, each) for name, each in trainers.items()}
    walls: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    for epoch in (1, 2):
        for name, work in works.items():
            wall, busy = time.perf_counter(), time.process_time()
            images = work(epoch) * BATCH  # either sampler leaves over what makes no whole batch
            walls[name].append(images / (time.perf_counter() - wall))
            processor[name].append(images / (time.process_time() - busy))
    for each in trainers.values():
        stop_workers(each.loader)
    print("\nby processor time of the training process, which other work on the machine disturbs less:", end="")
    show({name: max(rates) for name, rates in processor.items()})
    print("by the clock:", end="")
    assert show({name: max(rates) for name, rates in walls.items()}) >= 1.3


class CountingEngine(ImageTripletEngine):  # type: ignore[misc]
    """torchreid's engine, which also counts its batches."""

    seen = 0

    def forward_backward(self, data: Any) -> Any:
        self.seen += 1
        return super().forward_backward(data)


def torchreids_engine(config: Config, model: ReidNet, crops: list[Crop], classes: dict[int, int]) -> CountingEngine:
    """With the same initial weights, images, kind of sampler, workers, losses and optimizer."""
    items = [(str(crop.path), classes[crop.pid], crop.cam) for crop in crops]
    dataset = ImageDataset(items, items, items, transform=torchreids_transforms(), mode="train", verbose=False)
    sampler = RandomIdentitySampler(dataset.train, BATCH, config.train.num_instances)
    loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=WORKERS, drop_last=True)
    net = ReidNet(config.model.name, len(classes)).backbone
    net.load_state_dict(model.backbone.state_dict())
    optimizer = torch.optim.Adam(net.parameters(), config.optimizer.lr, weight_decay=5e-4, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 20)
    data = SimpleNamespace(train_loader=loader, test_loader={}, num_train_pids=len(classes))
    engine = CountingEngine(data, net, optimizer, scheduler=scheduler, use_gpu=False, label_smooth=True)
    engine.max_epoch = 2
    return engine
