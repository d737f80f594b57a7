"""A small trainer on the demo people, for tests of single steps and epochs; whole tiny runs, and what they leave."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from osnet.whole_runs import TINY, Done, Train, read
from watchme.config.validation import validate
from watchme.core.seed import seed_everything
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import read_market
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.loader import TrainSet
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.initial_weights import freeze
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.trainer import Trainer
from watchme.run.runner import run

BASE = (
    "model=osnet_x0_25",
    "dataset.height=64",
    "dataset.width=32",
    "loss=softmax",
    "optimizer=sgd",
    "optimizer.lr=0.01",
    "optimizer.momentum=0",
    "optimizer.weight_decay=0",
    "train.batch_size=8",
    "train.sampler=random",
    "train.device=cpu",
    "train.epochs=2",
)


@pytest.fixture
def make_trainer(typed_config: Callable[..., Config], small_world: DemoWorld, tmp_path: Path) -> Callable[..., Trainer]:
    """`make_trainer(*overrides)`: a trainer with the same initial weights each time."""
    train = read_market(small_world.reid).train
    classes = {pid: place for place, pid in enumerate(sorted({crop.pid for crop in train}))}

    def build(*overrides: str, patterns: tuple[str, ...] = (), precision: str = "fp32", **options: Any) -> Trainer:
        config = typed_config(*BASE, *overrides)
        seed_everything(0, deterministic=True)
        model = ReidNet(config.model.name, len(classes), bnneck=config.model.bnneck)
        freeze(model.backbone, patterns)
        images = Images(train, (config.dataset.height, config.dataset.width), "ram")
        dataset = TrainSet(images, classes, config.augmentation)
        validate, emit = options.get("validate"), options.get("emit", lambda event: None)
        device, weights = options.get("device", torch.device("cpu")), tmp_path / "weights"
        steps = options.get("steps")
        trainer = Trainer(config, model, dataset, validate, emit, weights, device, precision, ProcessGroup(), steps)
        trainer.learner.start_epoch(None)
        trainer.learner.set_learning_rate(1.0)
        return trainer

    return build


@pytest.fixture(scope="session")
def train(composed_config: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """`train(*overrides)`: a whole run in this process, its folder and what stands there."""

    def work(*overrides: str, folder: Path | None = None) -> Done:
        folder = folder or tmp_path_factory.mktemp("run")
        composed = composed_config(*TINY, *overrides)
        run(validate(composed), composed, folder, list(overrides))
        return read(folder)

    return work
