"""One drawn dataset and one short training for all tests of the YOLO engine."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from watchme.config.validation import validate
from watchme.engines.yolo.config import Config
from yolo.world import Recorder, Trained, draw_dataset, train

Tiny = Callable[..., Config]
GROUPS = {"dataset", "model", "optimizer", "scheduler", "augmentation", "loss", "evaluation", "train"}
RECIPE = (
    "dataset=person_detection",
    "model=yolo11n",
    "model.weights=null",
    "optimizer=adamw",
    "optimizer.lr=0.004",
    "augmentation=yolo_light",
    "scheduler.warmup_epochs=1",
    "dataset.image_size=64",
    "train.batch_size=8",
    "train.nominal_batch_size=8",
    "train.device=cpu",
    "train.workers=0",
    "train.patience=0",
    "evaluation.plots=false",
    "evaluation.examples=0",
)


@pytest.fixture(scope="session", autouse=True)
def isolated(own_cache: Path) -> None:
    """ultralytics set up as the engine does, before any test imports it."""
    from watchme.engines.yolo.isolation import isolate

    isolate()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn dataset of one class with train, val and test."""
    return draw_dataset(tmp_path_factory.mktemp("drawn"), {"train": 48, "val": 16, "test": 8})


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn dataset of cars (0) and persons (1)."""
    return draw_dataset(tmp_path_factory.mktemp("two"), {"train": 8, "val": 8}, ("car", "person"), seed=1)


@pytest.fixture(scope="session")
def tiny(composed_config: Callable[..., DictConfig], drawn: Path) -> Tiny:
    """`tiny(*overrides)`: the typed config of a training that takes a second an epoch.

    Each choice of groups is composed once, values are put in afterwards: composing takes a tenth of a second.
    """
    parser = OverridesParser.create()

    @cache
    def composed(*groups: str) -> DictConfig:
        return composed_config(*groups)

    def build(*overrides: str) -> Config:
        parsed = parser.parse_overrides([*RECIPE, f"dataset.root={drawn}", *overrides])
        groups = {one.key_or_group: one.value() for one in parsed if one.key_or_group in GROUPS}
        config = copy.deepcopy(composed(*(f"{group}={option}" for group, option in groups.items())))
        for one in parsed:
            if one.key_or_group not in GROUPS:
                OmegaConf.update(config, one.key_or_group, one.value(), force_add=True)
        return cast(Config, validate(config))

    return build


@pytest.fixture(scope="session")
def learned(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training long enough to find the drawn boxes, with all its pictures."""
    config = tiny("train.epochs=14", "evaluation.plots=true", "evaluation.examples=4")
    return train(config, Recorder(tmp_path_factory.mktemp("learned") / "run"))


@pytest.fixture(scope="session")
def short(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training of three epochs."""
    return train(tiny("train.epochs=3"), Recorder(tmp_path_factory.mktemp("short") / "run"))
