"""Batches as workers send them, and what is said when shared memory is full."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from watchme.core.errors import TrainingError
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import read_market
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.loader import read_batches
from watchme.engines.osnet.trainer import Trainer

# As torch says it: a 64 MB /dev/shm with workers, and with a shared cache; a worker that the kernel killed.
FULL = [
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit.",
    "unable to allocate shared memory(shm) for file </torch_7_1_0>: No space left on device (28)",
    "DataLoader worker (pid 7) is killed by signal: Terminated. ",
]


class Broken(DataLoader[Any]):
    """A loader that fails at its first batch."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __iter__(self) -> Any:
        raise RuntimeError(self.text)


@pytest.mark.parametrize("text", FULL)
def test_a_full_shared_memory_names_the_fix(text: str) -> None:
    with pytest.raises(TrainingError, match=r"(?s)--shm-size=1g.*train\.workers.*torch says"):
        list(read_batches(Broken(text)))


def test_a_worker_that_finds_no_shared_memory_ends_the_epoch(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so itself: the thread that sends its batches would lose this one, for which the run would wait."""

    def full(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_7_1_0>: No space left on device (28)"
        )

    loader = make_trainer("train.workers=1").loader
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(TrainingError, match=r"(?s)--shm-size=1g.*train\.workers.*No space left"):
        next(read_batches(loader))


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="strange"):
        list(read_batches(Broken("strange")))


def test_forked_workers_need_no_shared_memory_for_the_cache(
    small_world: DemoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "share_memory_", None)
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "fork")
    images = Images(list(read_market(small_world.reid).query), (64, 32), "ram")
    assert images.memory is not None


def test_a_batch_travels_as_bytes(make_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    """64 MB of /dev/shm are enough for what four workers have under way at 256x128 and batch 32."""
    trainer = make_trainer()
    batch = next(iter(trainer.loader))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (8, 64, 32, 3)
    sent = 32 * 256 * 128 * 3
    assert 4 * 2 * sent < 64 * 2**20
