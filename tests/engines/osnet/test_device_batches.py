"""Batches on their way to the device: what is asked of torch for each kind of device, and the pixels that arrive."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from watchme.core.interfaces import Job
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import read_market
from watchme.engines.osnet import embed_and_rank, inference, learner, trainer
from watchme.engines.osnet.config import ReidAugmentation
from watchme.engines.osnet.data.augmentation import MEAN, STD, augment, to_network
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.device_batches import to_device, uses_channels_last
from watchme.engines.osnet.data.loader import Batch, read_batches
from watchme.engines.osnet.evaluate import Evaluator
from watchme.engines.osnet.model import ReidNet

CPU, META = torch.device("cpu"), torch.device("meta")
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 64, 32, 3), np.uint8))


@pytest.mark.parametrize(("kind", "asynchronous", "channels_last"), [("mps", False, False), ("cpu", False, True)])
def test_only_cuda_copies_without_blocking(
    kind: str, asynchronous: bool, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On MPS such a copy reads memory that is overwritten already, and channels-last convolutions are wrong."""
    asked: list[Any] = []
    real = torch.Tensor.to

    def to(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if args and isinstance(args[0], torch.device):
            asked.append((args[0].type, options.get("non_blocking")))
            return tensor
        return real(tensor, *args, **options)

    device = torch.device(kind)
    assert uses_channels_last(True, device) == channels_last
    assert not uses_channels_last(False, device)
    monkeypatch.setattr(torch.Tensor, "to", to)
    loaded = Batch(IMAGES, torch.zeros(4), torch.arange(4), torch.zeros((4, 4), dtype=torch.int64))
    (batch,) = to_device([loaded], device, normalize=True, channels_last=channels_last)
    assert asked == [(kind, asynchronous)] * 3
    assert batch.images.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert batch.images.is_contiguous() != channels_last


def test_cuda_may_have_channels_last() -> None:
    assert uses_channels_last(True, torch.device("cuda"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "osnet.pt"
    torch.save({"state_dict": ReidNet("osnet_x0_25", 1).backbone.state_dict()}, path)
    return path


def test_no_model_has_channels_last_where_its_batches_have_not(
    make_trainer: Callable[..., trainer.Trainer], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that is neither CUDA nor the CPU, as MPS is."""
    made = make_trainer("train.channels_last=true", device=META)
    tested = ReidNet("osnet_x0_25", 5)
    Evaluator(Job(made.config, tmp_path), META).test(tested, SimpleNamespace(test_splits={}))  # type: ignore[arg-type]
    monkeypatch.setattr(inference, "choose_device", torch.device)  # which refuses this one
    loaded = inference.load(checkpoint, "meta")
    assert isinstance(loaded, inference.OsnetEmbedder)
    for model in (made.learner.model, tested, loaded.model):
        weight = model.backbone.conv1.conv.weight
        assert weight.device == META
        assert weight.is_contiguous()
    assert not made.learner.channels_last


def test_a_device_becomes_the_current_one_before_a_loader_pins_batches(
    make_trainer: Callable[..., trainer.Trainer],
    small_world: DemoWorld,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its thread would make a context on GPU 0. Embeddings are computed without TF32 at that."""
    made = make_trainer()
    calls: list[object] = []
    for module in (learner, embed_and_rank, inference):
        monkeypatch.setattr(module, "use_device", lambda device, tf32: calls.append((device, tf32)))

    def noted(loader: Any) -> Any:
        calls.append("read")
        return read_batches(loader)

    for module in (trainer, embed_and_rank):
        monkeypatch.setattr(module, "read_batches", noted)
    made.train_epoch(1)
    assert calls == [(CPU, True), "read"]
    calls.clear()
    images = Images(read_market(small_world.reid).query[:2], (64, 32), "none")
    embed_and_rank.Embedder(made.config, CPU).embed(made.learner.model, images)
    assert calls == [(CPU, False), "read"]
    calls.clear()
    inference.load(checkpoint, "cpu")
    assert calls == [(CPU, False)]


@pytest.mark.parametrize("normalize", [True, False])
def test_normalised_as_a_table_of_the_256_values_would(normalize: bool) -> None:
    """Bit for bit what numpy gives in float32, as workers did it before."""
    values = np.repeat((np.arange(256, dtype=np.float32) / np.float32(255))[:, None], 3, axis=1)
    if normalize:
        values = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    expected = np.stack([values[IMAGES.numpy()[..., colour], colour] for colour in range(3)], axis=1)
    assert np.array_equal(to_network(IMAGES, normalize=normalize).numpy(), expected)


def test_erases_what_a_loop_over_images_erases() -> None:
    """Draw by draw the same rectangles as when workers erased, after normalising, from the same generator."""
    config = ReidAugmentation(engine="osnet", random_flip=0.0, random_crop=0.0, random_erase=0.6)

    def as_before(image: Any, rng: np.random.Generator) -> Any:
        pixels = to_network(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy().copy()
        if rng.random() < config.random_erase:
            for _ in range(100):
                target = rng.uniform(*config.erase_area) * 64 * 32
                aspect = rng.uniform(config.erase_ratio, 1 / config.erase_ratio)
                tall, wide = round((target * aspect) ** 0.5), round((target / aspect) ** 0.5)
                if 0 < tall < 64 and 0 < wide < 32:
                    top, left = rng.integers(0, 64 - tall + 1), rng.integers(0, 32 - wide + 1)
                    pixels[top : top + tall, left : left + wide] = np.array(MEAN, np.float32)
                    break
        return pixels.transpose(2, 0, 1)

    erased = 0
    for seed in range(40):
        image = IMAGES[seed % 4].numpy()
        pixels, box = augment(image, config, np.random.default_rng(seed), lambda rng: IMAGES[0].numpy())
        erased += box is not None
        ours = to_network(torch.from_numpy(pixels)[None], torch.tensor([box or (0, 0, 0, 0)]))[0]
        assert np.array_equal(ours.numpy(), as_before(image, np.random.default_rng(seed)))
    assert 10 < erased < 35
