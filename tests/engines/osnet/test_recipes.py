"""Each recipe composes, validates, and has the values of its source; the experiments' comments name it."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from watchme.data.demo import DemoWorld
from watchme.engines.osnet.config import Config

Typed = Callable[..., Config]
PROJECT = Path(__file__).resolve().parents[3]

# The guide's Training Script; what it leaves open are torchreid's defaults.
BASIC = {
    "model.name": "osnet_x1_0",
    "dataset.name": "market1501",
    "dataset.height": 256,
    "dataset.width": 128,
    "train.batch_size": 32,
    "evaluation.batch_size": 100,
    "augmentation.random_flip": 0.5,
    "augmentation.random_crop": 0.5,
    "augmentation.random_patch": 0.0,
    "augmentation.random_erase": 0.0,
    "augmentation.color_jitter": 0.0,
    "augmentation.random_gray_scale": 0.0,
    "augmentation.normalize": True,
    "train.num_instances": 4,
    "train.sampler": "identity",
    "optimizer.name": "adam",
    "optimizer.lr": 0.00035,
    "optimizer.weight_decay": 0.0005,
    "optimizer.momentum": 0.9,
    "optimizer.beta2": 0.99,
    "scheduler.name": "single_step",
    "scheduler.step_size": 20,
    "scheduler.gamma": 0.1,
    "scheduler.warmup_epochs": 0.0,
    "loss.label_smoothing": 0.1,
    "loss.margin": 0.3,
    "loss.weight_t": 1.0,
    "loss.weight_x": 1.0,
    "loss.metric": None,
    "train.epochs": 100,
    "train.eval_every": 10,
    "train.log_every": 20,
    "evaluation.distance": "euclidean",
    "evaluation.normalize": False,
    "dataset.val_identities": 0.0,
    "dataset.combineall": False,
    "dataset.load_train_targets": False,
    "dataset.k_tfm": 1,
}
ADVANCED = BASIC | {
    "model.name": "osnet_ibn_x1_0",
    "dataset.name": "several",
    "dataset.sources": ["market1501", "dukemtmcreid"],
    "dataset.targets": ["market1501", "dukemtmcreid"],
    "dataset.combineall": True,
    "train.batch_size": 64,
    "train.num_cams": 8,
    "train.num_datasets": 2,
    "augmentation.random_erase": 0.5,
    "augmentation.color_jitter": 1.0,
    "augmentation.random_gray_scale": 0.1,
    "optimizer.name": "adamw",
    "optimizer.eps": 1e-8,
    "optimizer.amsgrad": True,
    "optimizer.beta2": None,
    "scheduler.name": "cosine_restarts",
    "scheduler.step_size": None,
    "scheduler.gamma": None,
    "scheduler.restart_epochs": 40,
    "scheduler.eta_min": 1e-7,
    "train.epochs": 120,
    "train.eval_every": 5,
    "train.log_every": 50,
    "train.save_period": 5,
    "evaluation.visrank_topk": 10,
    "evaluation.metric": "market1501",
    "evaluation.ranks": [1, 5, 10, 20],
    "evaluation.rerank": False,
}
# configs/im_osnet_x1_0_softmax_256x128_amsgrad.yaml of KaiyangZhou/deep-person-reid, and scripts/default_config.py.
ZOO = {
    "model.name": "osnet_x1_0",
    "dataset.height": 256,
    "dataset.width": 128,
    "dataset.combineall": False,
    "augmentation.random_flip": 0.5,
    "augmentation.random_crop": 0.0,
    "augmentation.color_jitter": 0.0,
    "loss.weight_x": 1.0,
    "loss.weight_t": 0.0,
    "loss.label_smoothing": 0.1,
    "optimizer.name": "amsgrad",
    "optimizer.lr": 0.0015,
    "optimizer.weight_decay": 0.0005,
    "optimizer.momentum": 0.9,
    "optimizer.beta2": None,
    "train.epochs": 150,
    "train.batch_size": 64,
    "train.sampler": "random",
    "train.fixbase_epochs": 10,
    "train.open_layers": ["classifier"],
    "scheduler.name": "single_step",
    "scheduler.step_size": 60,
    "scheduler.gamma": 0.1,
    "evaluation.batch_size": 300,
    "evaluation.distance": "euclidean",
    "evaluation.normalize": False,
    "evaluation.rerank": False,
}
JITTERED = {"augmentation.color_jitter": 1.0, "augmentation.brightness": 0.2, "augmentation.contrast": 0.15}
RECIPES: dict[str, dict[str, Any]] = {
    "osnet_basic": BASIC,
    "osnet_advanced": ADVANCED,
    "osnet_zoo": ZOO,
    "osnet_ibn_zoo": ZOO | JITTERED | {"model.name": "osnet_ibn_x1_0"},
    "osnet_ain_zoo": ZOO
    | JITTERED
    | {
        "model.name": "osnet_ain_x1_0",
        "train.epochs": 100,
        "scheduler.name": "cosine",
        "scheduler.final_lr_ratio": 0.0,
        "scheduler.step_size": None,
        "scheduler.gamma": None,
        "evaluation.distance": "cosine",
    },
    "reid_modern": {
        "model.bnneck": True,
        "loss.weight_x": 1.0,
        "loss.weight_t": 1.0,
        "scheduler.name": "cosine",
        "scheduler.warmup_epochs": 2.0,
        "train.ema_decay": 0.999,
        "train.sampler": "identity",
    },
}


@pytest.fixture
def roots(small_world: DemoWorld, tmp_path: Path) -> Path:
    """Market-1501 and DukeMTMC-reID as torchreid nests them."""
    for nested in ("market1501/Market-1501-v15.09.15", "dukemtmc-reid/DukeMTMC-reID"):
        (tmp_path / nested).parent.mkdir(parents=True)
        shutil.copytree(small_world.reid, tmp_path / nested)
    return tmp_path


def value(config: Config, key: str) -> Any:
    section, name = key.split(".")
    return asdict(cast(Any, getattr(config, section)))[name]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_the_values_of_its_source(name: str, typed_config: Typed, roots: Path) -> None:
    config = typed_config(f"experiment={name}", f"dataset.root={roots}")
    assert {key: value(config, key) for key in RECIPES[name]} == RECIPES[name]
    assert (config.model.pretrained, config.model.weights) == (True, "imagenet")


def test_every_recipe_of_osnet_is_held_to_its_source_and_cites_it() -> None:
    files = {path.stem: path.read_text() for path in (PROJECT / "conf" / "experiment").glob("*.yaml")}
    ours = {name: text for name, text in files.items() if "/model: osnet" in text}
    assert ours.keys() == RECIPES.keys()
    for name, text in ours.items():
        assert "guide" in text or "github.com/" in text, name


@pytest.mark.parametrize("name", RECIPES)
def test_command_line_beats_a_recipe(name: str, typed_config: Typed, roots: Path) -> None:
    given = ("model=osnet_x0_25", "train.epochs=10", "train.workers=0", "dataset.val_identities=2")
    config = typed_config(f"experiment={name}", f"dataset.root={roots}", *given)
    assert (config.model.name, config.train.epochs, config.dataset.val_identities) == ("osnet_x0_25", 10, 2)
    assert value(config, "scheduler.name") == RECIPES[name]["scheduler.name"]


def test_backend_variables_reach_the_guides_recipes(
    typed_config: Typed, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("EPOCHS", "7"), ("BATCH_SIZE", "16"), ("LEARNING_RATE", "0.5")):
        monkeypatch.setenv(f"OSNET_{name}", text)
    for recipe in ("osnet_basic", "osnet_advanced"):
        config = typed_config(f"experiment={recipe}", f"dataset.root={roots}")
        assert (config.train.epochs, config.train.batch_size, config.optimizer.lr) == (7, 16, 0.5)
