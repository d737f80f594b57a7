"""train.batch_size=-1, with the GPU's memory played by a formula."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from watchme.core.errors import CheckpointError, ConfigError
from watchme.engines.osnet import batch_size
from watchme.engines.osnet.batch_size import find_batch_size, resumed_batch_size
from watchme.engines.osnet.trainer import Trainer

GPU = torch.device("cuda", 0)


@pytest.fixture
def trainer(make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = make_trainer("train.sampler=identity", "train.num_instances=2")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=MEMORY))
    monkeypatch.setattr(batch_size, "_peak_memory", lambda config, model, device, size: 2**20 * (200 + 10 * size))
    return made


MEMORY = 1000 * 2**20


def test_four_fifths_of_the_memory_are_used(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.dataset, "classes", dict.fromkeys(range(10_000), 0))
    monkeypatch.setattr(type(trainer.dataset.images), "__len__", lambda self: 10_000)
    before = torch.get_rng_state()
    # 200 + 10 * 60 = 800 MB; batches are multiples of 8, and of num_instances.
    assert find_batch_size(trainer.config, trainer.learner.model, trainer.dataset, GPU) == 56
    assert torch.equal(torch.get_rng_state(), before)


def test_no_batch_is_larger_than_the_training_set_allows(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_peak_memory", lambda config, model, device, size: 2**20)
    found = find_batch_size(trainer.config, trainer.learner.model, trainer.dataset, GPU)
    assert found == len(trainer.dataset.classes) * 2 // 8 * 8


def test_a_gpu_that_is_too_small_and_a_cpu_are_refused(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"(?s)train\.batch_size.*is on cpu"):
        find_batch_size(trainer.config, trainer.learner.model, trainer.dataset, torch.device("cpu"))
    monkeypatch.setattr(batch_size, "_peak_memory", lambda config, model, device, size: 2**30 * size)
    with pytest.raises(ConfigError, match="not even 8 images fit"):
        find_batch_size(trainer.config, trainer.learner.model, trainer.dataset, GPU)


def test_a_resumed_run_keeps_the_size_that_was_found(trainer: Trainer) -> None:
    assert resumed_batch_size({"training": trainer.state_dict()}) == 8
    with pytest.raises(CheckpointError, match="name it"):
        resumed_batch_size({"training": {}})
