"""Batches on their way to the device: what is asked of torch for each kind of device, and the pixels that arrive."""

from typing import Any

import numpy as np
import pytest
import torch

from watchme.engines.osnet.config import ReidAugmentation
from watchme.engines.osnet.data.augmentation import MEAN, STD, augment, to_network
from watchme.engines.osnet.data.device_batches import to_device, uses_channels_last
from watchme.engines.osnet.data.loader import Batch

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
    (batch,) = to_device(
        [Batch(IMAGES, torch.zeros(4), torch.arange(4))], device, normalize=True, channels_last=channels_last
    )
    assert asked == [(kind, asynchronous), (kind, asynchronous)]
    assert batch.images.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert batch.images.is_contiguous() != channels_last


def test_cuda_may_have_channels_last() -> None:
    assert uses_channels_last(True, torch.device("cuda"))


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
