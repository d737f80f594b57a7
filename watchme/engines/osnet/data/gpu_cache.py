"""dataset.cache=gpu: all training images on the GPU as bytes, augmented there in batches; no loader processes.

Flip, crop and erase are drawn from the same generators as `augmentation.augment` draws them, so that an epoch sees the
same windows and rectangles; the crop is interpolated by torch instead of OpenCV, which differs by a level of 255.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from watchme.engines.osnet.config import ReidAugmentation
from watchme.engines.osnet.data.augmentation import crop_size, draw_erased, draw_window, to_network
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.device_batches import DeviceBatch
from watchme.engines.osnet.data.loader import TrainSet, View
from watchme.engines.osnet.data.sampler import EpochBatches


class GpuCache:
    """The training images on a device, read from disk now; they take height * width * 3 bytes each."""

    def __init__(self, dataset: TrainSet, device: torch.device, *, normalize: bool, channels_last: bool) -> None:
        self.dataset = dataset
        self.device = device
        self.normalize = normalize
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.memory = _read(dataset.images, device)

    def batches(self, epoch: EpochBatches) -> Iterator[DeviceBatch]:
        """The batches of the epoch that a sampler is set to."""
        for draws in epoch:
            views = [view for draw in draws for view in self.dataset.views(draw)]
            labels = [self.dataset.classes[self.dataset.images.crops[view.draw.image].pid] for view in views]
            pixels = self._augmented(views).contiguous(memory_format=self.layout)
            indices = torch.tensor([view.draw.image for view in views])
            yield DeviceBatch(pixels, self._moved(torch.tensor(labels)), indices)

    def _moved(self, values: Tensor) -> Tensor:
        pinned = values.pin_memory() if self.device.type == "cuda" else values
        return pinned.to(self.device, non_blocking=self.device.type == "cuda")

    def _augmented(self, views: list[View]) -> Tensor:
        config, size = self.dataset.augmentation, self.dataset.images.size
        drawn = [_draw(config, size, view.rng()) for view in views]
        flips, windows, erased = (self._moved(torch.tensor(values)) for values in zip(*drawn, strict=True))
        images = self.memory[self._moved(torch.tensor([view.file for view in views]))]
        images = torch.where(flips[:, None, None, None], images.flip(2), images)
        if config.random_crop:
            images = torch.where((windows[:, 0] >= 0)[:, None, None, None], _cropped(images, windows, config), images)
        return to_network(images, erased if config.random_erase else None, normalize=self.normalize)


def _read(images: Images, device: torch.device) -> Tensor:
    """(N, H, W, 3) uint8 on the device, copied in parts so that they need not fit into the machine's memory."""
    memory = torch.empty((len(images.files), *images.size, 3), dtype=torch.uint8, device=device)
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(images.files), 1024):
            numbers = range(start, min(start + 1024, len(images.files)))
            memory[start : numbers.stop] = torch.from_numpy(np.stack(list(pool.map(images.__getitem__, numbers))))
    return memory


def _draw(
    config: ReidAugmentation, size: tuple[int, int], rng: np.random.Generator
) -> tuple[bool, tuple[int, int], tuple[int, int, int, int]]:
    """Whether an image is flipped, top and left of its window (-1: it is not cropped), and what is erased of it."""
    flip = bool(config.random_flip and rng.random() < config.random_flip)
    window = (-1, -1)
    if config.random_crop and rng.random() < config.random_crop:
        window = draw_window(size, config.crop_scale, rng)
    return flip, window, draw_erased(size, config, rng) or (0, 0, 0, 0)


def _cropped(images: Tensor, windows: Tensor, config: ReidAugmentation) -> Tensor:
    """(B, H, W, 3) uint8 windows of the enlarged images."""
    count, height, width, _ = images.shape
    large = functional.interpolate(
        images.permute(0, 3, 1, 2).float(), crop_size((height, width), config.crop_scale), mode="bilinear"
    )
    rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
    top, left = windows.clamp(min=0)[:, :, None].unbind(1)
    number = torch.arange(count, device=images.device)[:, None, None]
    # Advanced indices around the colours put these last.
    cut = large[number, :, (top + rows)[:, :, None], (left + columns)[:, None, :]]
    return cut.round().to(torch.uint8)
