"""torchreid's augmentations, in its order, on uint8 arrays of the network's size, from an explicit generator.

torchreid augments PIL images; here the resized image is an array that may come from a cache. The distributions are
the same: flip, crop, patch, colour jitter, grey, normalise, erase. Every random number comes from the generator
given, so that an image's augmentation depends on seed, epoch and position alone, whichever worker makes it.

Images stay uint8, height x width x colour, until they are on the device: `to_network` normalises and erases a batch
there. That, and no image decoded twice, makes it several times as fast as torchreid's
(tests/benchmarks/test_osnet_speed.py).
"""

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from watchme.engines.osnet.config import ReidAugmentation

Image = npt.NDArray[np.uint8]
Rng = np.random.Generator
# Top, left, height, width of a rectangle, pixels.
Box = tuple[int, int, int, int]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB


def augment(
    image: Image, config: ReidAugmentation, rng: Rng, other: Callable[[Rng], Image]
) -> tuple[Image, Box | None]:
    """Augment one image for training, (H, W, 3) uint8 RGB, contiguous, which is not changed.

    `rng` decides everything; `other` returns a random other image of the training set, for patches.

    Returns:
        (H, W, 3) uint8, and the rectangle that `to_network` is to erase.
    """
    if config.random_flip and rng.random() < config.random_flip:
        image = np.asarray(cv2.flip(image, 1), np.uint8)
    if config.random_crop and rng.random() < config.random_crop:
        image = _crop(image, config.crop_scale, rng)
    if config.random_patch and rng.random() < config.random_patch:
        image = _patch(image, other(rng), config, rng)
    if config.color_jitter and rng.random() < config.color_jitter:
        image = _jitter(image, config, rng)
    if config.random_gray_scale and rng.random() < config.random_gray_scale:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    return image, draw_erased(image.shape[:2], config, rng)


def draw_erased(size: tuple[int, ...], config: ReidAugmentation, rng: Rng) -> Box | None:
    """The rectangle of an image of `size` (height, width) that is erased; None where it is left alone."""
    if config.random_erase and rng.random() < config.random_erase:
        return _random_box(rng, size[0], size[1], config.erase_area, config.erase_ratio)
    return None


def to_network(images: Tensor, erased: Tensor | None = None, *, normalize: bool = True) -> Tensor:
    """Normalise a batch on the device that it is on, and fill rectangles with ImageNet's mean.

    torchreid erases after normalising, with the mean itself rather than 0, and so does this.

    Args:
        images: (B, H, W, 3) uint8 RGB, contiguous.
        erased: (B, 4) int64 top, left, height, width; a height of 0 erases nothing.
        normalize: By ImageNet's mean and deviation; else only scaled to 0..1.

    Returns:
        (B, 3, H, W) float32, channels last in memory.
    """
    count, height, width, _ = images.shape
    scale, mean, std = _constants(width, images.device)
    # As rows of W * 3 values: broadcasting over 3 alone is 30 times as slow on a CPU.
    pixels = images.reshape(count, height, width * 3).float().div_(scale)
    if normalize:
        pixels = pixels.sub_(mean).div_(std)
    pixels = pixels.view(count, height, width, 3)
    if erased is not None:
        top, left, tall, wide = erased[:, :, None].unbind(1)
        rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
        in_rows, in_columns = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
        inside = in_rows[:, :, None, None] & in_columns[:, None, :, None]
        pixels = torch.where(inside, mean.view(width, 3), pixels)
    return pixels.permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=8)
def _constants(width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """255 as a tensor (a GPU would multiply by the rounded inverse of a number), and (W * 3,) mean and deviation."""
    mean, std = (torch.tensor(values, device=device).repeat(width) for values in (MEAN, STD))
    return torch.tensor([255.0], device=device), mean, std


def _crop(image: Image, scale: float, rng: Rng) -> Image:
    """Enlarge (torchreid: by 1/8) and cut a random window of the old size, as its Random2DTranslation."""
    height, width = image.shape[:2]
    tall, wide = crop_size((height, width), scale)
    large = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)
    top, left = draw_window((height, width), scale, rng)
    return np.ascontiguousarray(large[top : top + height, left : left + width], np.uint8)


def crop_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) to which an image is enlarged before a window of its old size is cut."""
    return round(size[0] * scale), round(size[1] * scale)


def draw_window(size: tuple[int, int], scale: float, rng: Rng) -> tuple[int, int]:
    """Top and left of a window of `size` in the enlarged image."""
    tall, wide = crop_size(size, scale)
    # Rounded, as torchreid does: the outermost windows are half as likely.
    return round(rng.uniform(0, tall - size[0])), round(rng.uniform(0, wide - size[1]))


def _patch(image: Image, source: Image, config: ReidAugmentation, rng: Rng) -> Image:
    """Paste a patch of another image, flipped and turned at times (torchreid's RandomPatch, Zhou et al., OSNet)."""
    height, width = image.shape[:2]
    box = _random_box(rng, height, width, config.patch_area, config.patch_ratio)
    if box is None:
        return image
    top, left, tall, wide = box
    patch = np.ascontiguousarray(source[top : top + tall, left : left + wide])
    if rng.random() > 0.5:
        patch = np.ascontiguousarray(patch[:, ::-1])
    if rng.random() > 0.5:
        turn = cv2.getRotationMatrix2D((wide / 2, tall / 2), float(rng.integers(-10, 11)), 1.0)
        patch = np.asarray(cv2.warpAffine(patch, turn, (wide, tall)), np.uint8).reshape(tall, wide, 3)
    result = image.copy()
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    result[top : top + tall, left : left + wide] = patch
    return result


def _jitter(image: Image, config: ReidAugmentation, rng: Rng) -> Image:
    """Brightness and contrast in random order, as torchvision's ColorJitter: each result is cut to 8 bits."""
    for step in rng.permutation(2):
        values = np.arange(256, dtype=np.float32)
        if step == 0:
            values *= np.float32(rng.uniform(1 - config.brightness, 1 + config.brightness))
        else:
            factor = np.float32(rng.uniform(1 - config.contrast, 1 + config.contrast))
            mean = np.float32(int(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean() + 0.5))
            values = values * factor + mean * (1 - factor)
        image = np.asarray(cv2.LUT(image, np.clip(values, 0, 255).astype(np.uint8)), np.uint8)
    return image


def _random_box(rng: Rng, height: int, width: int, area: tuple[float, float], ratio: float) -> Box | None:
    """A random rectangle inside the image, its aspect ratio within ratio..1/ratio; None where none is found."""
    for _ in range(100):
        target = rng.uniform(*area) * height * width
        aspect = rng.uniform(ratio, 1 / ratio)
        tall, wide = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < tall < height and 0 < wide < width:
            return int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1)), tall, wide
    return None
