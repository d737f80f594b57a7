"""Training loops that are timed: watchme's own, and torchreid's engine, on the same images, losses and optimizer."""

import contextlib
import dataclasses
import io
import itertools
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image, ImageFilter
from torch.utils.data._utils import pin_memory

from gpu.setting import PROJECT, Setting
from watchme.cli import resolvers
from watchme.config.validation import validate
from watchme.core import device as runtime
from watchme.core.seed import seed_everything
from watchme.data.formats.market1501 import Crop, read_market
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.loader import TrainSet
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.trainer import Trainer

# Market-1501 has 751 identities to train on.
IDENTITIES = 751


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is timed.

    Attributes:
        batch: Images in a step.
        overrides: More of the command line.
        recipe: `experiment`.
    """

    batch: int
    overrides: tuple[str, ...] = ()
    recipe: str = "osnet_basic"


def typed(*overrides: str) -> Config:
    """The validated config of a command line."""
    resolvers.register()
    with initialize_config_dir(str(PROJECT / "conf")):
        return cast(Config, validate(compose("config", list(overrides))))


def crops(setting: Setting, count: int) -> list[Crop]:
    """At least `count` training images; few files, which stand for several identities each."""
    files = list(read_market(root(setting)).train)
    wanted = max(count, IDENTITIES * 4)
    return [
        dataclasses.replace(crop, pid=crop.pid + 10_000 * copy)
        for copy in range(-(-wanted // len(files)))
        for crop in files
    ]


def root(setting: Setting) -> Path:
    """Photographs, or where there are none blurred noise: JPEGs of 128x64, 32 identities of 8 images."""
    if setting.data is not None:
        return setting.data / "market1501_mini"
    folder = setting.work / "noise"
    rng = np.random.default_rng(0)
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for pid, number in itertools.product(range(1, 33), range(8)):
            path = folder / split / f"{pid:04d}_c{number % 6 + 1}s1_{number:06d}_00.jpg"
            if not path.is_file():
                noise = Image.fromarray(rng.integers(0, 255, (128, 64, 3), dtype=np.uint8))
                noise.filter(ImageFilter.GaussianBlur(2)).save(path, quality=90)
    return folder


class Repeated:
    """A few ready batches as a loader of `count` batches, so that loading takes no time."""

    def __init__(self, batches: Sequence[Any], count: int) -> None:
        self.batches = batches
        self.length = count

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(itertools.cycle(self.batches), self.length)

    def set_epoch(self, epoch: int) -> None:
        """As a sampler has it; nothing changes."""


def our_trainer(setting: Setting, variant: Variant, *, loaded: bool = True) -> Trainer:
    """watchme's trainer; with `loaded` its batches are ready in pinned memory."""
    config = typed(
        f"experiment={variant.recipe}",
        f"model.name={'osnet_x0_25' if setting.tiny else 'osnet_x1_0'}",
        f"dataset.root={root(setting)}",
        f"train.device={setting.device}",
        f"train.batch_size={variant.batch}",
        "train.compile=off",
        *(["dataset.height=64", "dataset.width=32"] if setting.tiny else []),
        *variant.overrides,
    )
    device = runtime.choose_device(config.train.device)
    precision = runtime.choose_precision(config.train.precision, device)
    seed_everything(0, deterministic=runtime.choose_deterministic(config.train.deterministic, device))
    images = crops(setting, variant.batch * 64)
    classes = {pid: index for index, pid in enumerate(sorted({crop.pid for crop in images}))}
    model = ReidNet(config.model.name, len(classes), bnneck=config.model.bnneck)
    size = (config.dataset.height, config.dataset.width)
    dataset = TrainSet(Images(images, size, config.dataset.cache), classes, config.augmentation, config.dataset)
    trainer = Trainer(config, model, dataset, None, lambda event: None, setting.work, device, precision, ProcessGroup())
    if loaded:
        draws = [list(batch) for batch, _ in zip(trainer.batches, range(4), strict=False)]
        ready = [dataset.__getitems__(batch) for batch in draws]
        use(trainer, [_pinned(batch) for batch in ready] if setting.cuda else ready, len(ready))
    return trainer


def _pinned(batch: Any) -> Any:
    """A batch in page-locked memory, as a loader with `pin_memory` gives it."""
    return pin_memory.pin_memory(batch)  # type: ignore[no-untyped-call]


def use(trainer: Any, batches: Sequence[Any], count: int) -> None:
    """Let a trainer train on ready batches."""
    trainer.loader = trainer.batches = Repeated(batches, count)


def warm_up(trainer: Any, steps: int) -> float:
    """Train so many steps on ready batches; returns the seconds."""
    start = time.perf_counter()
    use(trainer, trainer.loader.batches, steps)
    trainer.train_epoch(1)
    synchronize()
    return time.perf_counter() - start


def rate(trainer: Any, steps: int, warm: int, batch: int) -> dict[str, float]:
    """Images a second of a trainer's epoch of `steps` steps with ready batches, and its peak memory in GB."""
    first = warm_up(trainer, warm)
    use(trainer, trainer.loader.batches, steps)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trainer.train_epoch(1)
    synchronize()
    return _rated(time.perf_counter() - start, steps, batch, first)


def _rated(seconds: float, steps: int, batch: int, first: float) -> dict[str, float]:
    found = {
        "images_per_s": round(steps * batch / seconds, 1),
        "step_ms": round(1000 * seconds / steps, 2),
        "warm_up_s": round(first, 2),
    }
    if torch.cuda.is_available():
        found["peak_gb"] = round(torch.cuda.max_memory_reserved() / 2**30, 2)
    return found


class Torchreid:
    """torchreid's ImageTripletEngine as its own script starts it, with `torch.backends.cudnn.benchmark`."""

    def __init__(self, setting: Setting, batch: int) -> None:
        with _silence():
            from torchreid.reid.engine import ImageTripletEngine

        config = typed("experiment=osnet_basic", f"dataset.root={root(setting)}")
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = True
        height, width = (64, 32) if setting.tiny else (256, 128)
        generator = torch.Generator().manual_seed(0)
        self.batch = batch
        self.batches = [
            {
                "img": torch.randn(batch, 3, height, width, generator=generator),
                "pid": torch.arange(batch) // 4,
                "camid": torch.zeros(batch, dtype=torch.int64),
            }
            for _ in range(4)
        ]
        if setting.cuda:
            self.batches = [_pinned(batch) for batch in self.batches]
        net = ReidNet("osnet_x0_25" if setting.tiny else "osnet_x1_0", IDENTITIES).backbone
        net = net.cuda() if setting.cuda else net
        optimizer = torch.optim.Adam(net.parameters(), config.optimizer.lr, weight_decay=5e-4, betas=(0.9, 0.99))
        data = SimpleNamespace(train_loader=self.batches, test_loader={}, num_train_pids=IDENTITIES)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 20)
        self.engine = ImageTripletEngine(
            data, net, optimizer, scheduler=scheduler, use_gpu=setting.cuda, label_smooth=True
        )
        self.engine.max_epoch, self.engine.epoch = 2, 0

    def rate(self, steps: int, warm: int) -> dict[str, float]:
        """See `rate`."""
        self.train(warm)
        start = time.perf_counter()
        self.train(1)
        first = time.perf_counter() - start
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        self.train(steps)
        return _rated(time.perf_counter() - start, steps, self.batch, first)

    def train(self, steps: int) -> None:
        """Train so many steps."""
        self.engine.train_loader = Repeated(self.batches, steps)
        with _silence():
            self.engine.train(print_freq=10**6)
        synchronize()


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
