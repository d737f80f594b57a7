"""Augmentations of torchreid in its order, on uint8 arrays of the network's size, from an explicit generator.

torchreid augments PIL images; here the resized image is an array that may come from a cache. The distributions are
the same: flip, crop, patch, colour jitter, grey, normalise, erase. Every random number comes from the generator
given, so that an image's augmentation depends on seed, epoch and position alone, whichever worker makes it.

Images stay uint8, height x width x colour, up to the last step, which is one look-up in a table of 256 values: that,
and no image decoded twice, makes it several times as fast as torchreid's (tests/benchmarks/test_osnet_speed.py).
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from watchme.engines.osnet.config import ReidAugmentation

Image = npt.NDArray[np.uint8]
Rng = np.random.Generator

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, RGB
STD = np.array([0.229, 0.224, 0.225], np.float32)
# The 256 values of a byte as the network sees them, (1, 256, 3): scaled to 0..1 as ToTensor, then as Normalize.
_SCALED = np.repeat((np.arange(256, dtype=np.float32) / np.float32(255))[None, :, None], 3, axis=2)
_NORMALIZED = (_SCALED - MEAN) / STD


def augment(image: Image, config: ReidAugmentation, rng: Rng, other: Callable[[Rng], Image]) -> npt.NDArray[np.float32]:
    """Augment one image for training.

    Args:
        image: (H, W, 3) uint8 RGB, contiguous, not changed.
        config: Probabilities and parameters.
        rng: The generator that decides everything.
        other: Returns a random other image of the training set, for patches.

    Returns:
        (H, W, 3) float32, normalised.
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
    pixels = to_network(image, normalize=config.normalize)
    if config.random_erase and rng.random() < config.random_erase:
        _erase(pixels, config, rng)
    return pixels


def to_network(image: Image, *, normalize: bool = True) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 to float32, 0..1 or normalised by ImageNet's mean and deviation."""
    return np.asarray(cv2.LUT(image, _NORMALIZED if normalize else _SCALED), np.float32)


def _crop(image: Image, scale: float, rng: Rng) -> Image:
    """Enlarge (torchreid: by 1/8) and cut a random window of the old size, as its Random2DTranslation."""
    height, width = image.shape[:2]
    tall, wide = round(height * scale), round(width * scale)
    large = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)
    # Rounded, as torchreid does: the outermost windows are half as likely.
    top, left = round(rng.uniform(0, tall - height)), round(rng.uniform(0, wide - width))
    return np.ascontiguousarray(large[top : top + height, left : left + width], np.uint8)


def _patch(image: Image, source: Image, config: ReidAugmentation, rng: Rng) -> Image:
    """Paste a patch of another image, flipped and turned at times (torchreid's RandomPatch, Zhou et al., OSNet)."""
    height, width = image.shape[:2]
    box = _box(rng, height, width, config.patch_area, config.patch_ratio)
    if box is None:
        return image
    tall, wide = box
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
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


def _erase(pixels: npt.NDArray[np.float32], config: ReidAugmentation, rng: Rng) -> None:
    """Fill a rectangle with ImageNet's mean. torchreid does so after normalising, and so do we."""
    height, width = pixels.shape[:2]
    box = _box(rng, height, width, config.erase_area, config.erase_ratio)
    if box is None:
        return
    tall, wide = box
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    pixels[top : top + tall, left : left + wide] = MEAN


def _box(rng: Rng, height: int, width: int, area: tuple[float, float], ratio: float) -> tuple[int, int] | None:
    """Height and width of a random rectangle inside the image, its aspect ratio within ratio..1/ratio."""
    for _ in range(100):
        target = rng.uniform(*area) * height * width
        aspect = rng.uniform(ratio, 1 / ratio)
        tall, wide = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < tall < height and 0 < wide < width:
            return tall, wide
    return None
