"""train.batch_size=-1, with the GPU's memory played by a formula."""

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from osnet.tiny import TINY
from watchme.core.errors import CheckpointError, ConfigError
from watchme.data.demo import DemoWorld
from watchme.engines.osnet import batch_size, train
from watchme.engines.osnet.batch_size import find_batch_size, resumed_batch_size
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.trainer import Trainer

GPU = torch.device("cuda", 0)


@pytest.fixture
def trainer(make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = make_trainer("train.sampler=identity", "train.num_instances=2")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=MEMORY))
    monkeypatch.setattr(
        batch_size, "_peak_memory", lambda config, model, device, precision, size: 2**20 * (200 + 10 * size)
    )
    return made


MEMORY = 1000 * 2**20


def test_four_fifths_of_the_memory_are_used(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.dataset, "classes", dict.fromkeys(range(10_000), 0))
    monkeypatch.setattr(type(trainer.dataset.images), "__len__", lambda self: 10_000)
    before = torch.get_rng_state()
    # 200 + 10 * 60 = 800 MB; batches are multiples of 8, and of num_instances.
    assert find_batch_size(trainer.config, trainer.learner.model, trainer.dataset, GPU, "fp32") == 56
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("overrides", "count"), [((), 8), (("dataset.k_tfm=3",), 24), (("dataset.tracklets=true", "dataset.seq_len=5"), 40)]
)
def test_batches_that_are_tried_hold_all_images_of_their_draws(
    overrides: tuple[str, ...], count: int, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("empty_cache", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1)
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(batch_size.Learner, "step", lambda self, batch, metrics: seen.append(tuple(batch.images.shape)))
    trainer = make_trainer(*overrides)
    batch_size._peak_memory(trainer.config, trainer.learner.model, torch.device("cpu"), "fp32", 8)
    assert seen == [(count, 3, 64, 32)] * 2


def test_batches_are_tried_in_the_precision_of_the_run(
    run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train.detect_anomaly makes auto fp32 wherever it is."""
    tried: list[str] = []
    monkeypatch.setattr(train, "_require_gpu", lambda config, device: None)
    monkeypatch.setattr(train.runtime, "choose_precision", lambda wanted, device: "bf16")

    def find(*arguments: Any) -> int:
        tried.append(arguments[-1])
        return 8

    monkeypatch.setattr(train, "find_batch_size", find)
    options = (*TINY, f"dataset.root={small_world.reid}", "train.epochs=1", "train.batch_size=-1", "train.device=auto")
    run_engine(tmp_path, *options, "train.precision=auto", "train.detect_anomaly=true")
    assert tried == ["fp32"]


def test_no_batch_is_larger_than_the_training_set_allows(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_peak_memory", lambda config, model, device, precision, size: 2**20)
    found = find_batch_size(trainer.config, trainer.learner.model, trainer.dataset, GPU, "fp32")
    assert found == len(trainer.dataset.classes) * 2 // 8 * 8


def test_a_machine_without_a_gpu_is_refused_before_the_data_are_read(
    run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "read_run", lambda job: pytest.fail("the data were read"))
    options = ("model=osnet_x0_25", "dataset=market1501", f"dataset.root={small_world.reid}", "model.weights=null")
    with pytest.raises(ConfigError, match=r"(?s)train\.batch_size.*is on cpu"):
        run_engine(tmp_path, *options, "train.batch_size=-1", "train.processes=1")


def test_the_size_that_was_found_is_recorded(
    run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_require_gpu", lambda config, device: None)
    monkeypatch.setattr(train, "find_batch_size", lambda *_: 8)
    options = (*TINY, f"dataset.root={small_world.reid}", "train.epochs=1", "train.batch_size=-1", "train.device=auto")
    assert run_engine(tmp_path, *options).manifest["batch_size"] == 8


def test_a_gpu_that_is_too_small_is_refused(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_peak_memory", lambda config, model, device, precision, size: 2**30 * size)
    with pytest.raises(ConfigError, match="not even 8 images fit"):
        find_batch_size(trainer.config, trainer.learner.model, trainer.dataset, GPU, "fp32")


@pytest.mark.parametrize(("full", "found"), [(64, 56), (32, 24), (16, None)])
def test_a_size_that_is_tried_may_not_fit(
    full: int, found: int | None, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line goes through the sizes before, and none is found that is as large as that."""

    def peak(config: Config, model: ReidNet, device: torch.device, precision: str, size: int) -> int:
        if size >= full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return 2**20 * (200 + 10 * size)

    monkeypatch.setattr(batch_size, "_peak_memory", peak)
    monkeypatch.setattr(trainer.dataset, "classes", dict.fromkeys(range(10_000), 0))
    monkeypatch.setattr(type(trainer.dataset.images), "__len__", lambda self: 10_000)
    find = functools.partial(find_batch_size, trainer.config, trainer.learner.model, trainer.dataset, GPU, "fp32")
    if found is not None:
        assert find() == found
        return
    with pytest.raises(ConfigError, match="not even 16 images fit"):
        find()


def test_a_resumed_run_keeps_the_size_that_was_found(trainer: Trainer) -> None:
    assert resumed_batch_size({"training": trainer.state_dict()}) == 8
    with pytest.raises(CheckpointError, match="name it"):
        resumed_batch_size({"training": {}})
