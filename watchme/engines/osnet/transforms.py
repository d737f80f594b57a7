"""Augmentations of torchreid in its order, on uint8 arrays of the network's size, from an explicit generator.

torchreid augments PIL images; here the resized image is an array that may come from a cache. The distributions are
the same: flip, crop, patch, colour jitter, grey, normalise, erase. Every random number comes from the generator
given, so that an image's augmentation depends on seed, epoch and position alone, whichever worker makes it.
"""

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from watchme.engines.osnet.config import ReidAugmentation

Image = npt.NDArray[np.uint8]
Rng = np.random.Generator

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, RGB
STD = np.array([0.229, 0.224, 0.225], np.float32)
# ITU-R 601-2 luma, as in Pillow's convert("L") and torchvision.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def augment(image: Image, config: ReidAugmentation, rng: Rng, other: Callable[[Rng], Image]) -> npt.NDArray[np.float32]:
    """Augment one image for training.

    Args:
        image: (H, W, 3) uint8 RGB, not changed.
        config: Probabilities and parameters.
        rng: The generator that decides everything.
        other: Returns a random other image of the training set, for patches.

    Returns:
        (3, H, W) float32, normalised.
    """
    if config.random_flip and rng.random() < config.random_flip:
        image = image[:, ::-1]
    if config.random_crop and rng.random() < config.random_crop:
        image = _crop(image, rng)
    if config.random_patch and rng.random() < config.random_patch:
        image = _patch(image, other(rng), rng)
    pixels = image.astype(np.float32)
    if config.color_jitter and rng.random() < config.color_jitter:
        pixels = _jitter(pixels, config, rng)
    if config.random_gray_scale and rng.random() < config.random_gray_scale:
        pixels = np.repeat((pixels @ _LUMA)[..., None], 3, axis=2)
    tensor = to_network(pixels, normalize=config.normalize)
    if config.random_erase and rng.random() < config.random_erase:
        _erase(tensor, config, rng)
    return tensor


def to_network(pixels: npt.NDArray[Any], *, normalize: bool = True) -> npt.NDArray[np.float32]:
    """(H, W, 3) values of 0..255 to (3, H, W) float32, 0..1 or normalised by ImageNet's mean and deviation."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    if normalize:
        scaled = (scaled - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _crop(image: Image, rng: Rng) -> Image:
    """Enlarge by 1/8 and cut a random window of the old size (torchreid's Random2DTranslation)."""
    height, width = image.shape[:2]
    tall, wide = round(height * 1.125), round(width * 1.125)
    large = cv2.resize(np.ascontiguousarray(image), (wide, tall), interpolation=cv2.INTER_LINEAR)
    top, left = rng.integers(0, tall - height + 1), rng.integers(0, wide - width + 1)
    return np.asarray(large[top : top + height, left : left + width], np.uint8)


def _patch(image: Image, source: Image, rng: Rng) -> Image:
    """Paste a patch of another image, flipped and turned at times (torchreid's RandomPatch, Zhou et al., OSNet)."""
    height, width = image.shape[:2]
    box = _box(rng, height, width, (0.01, 0.5), 0.1)
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


def _jitter(pixels: npt.NDArray[np.float32], config: ReidAugmentation, rng: Rng) -> npt.NDArray[np.float32]:
    """Brightness and contrast in random order, as torchvision's ColorJitter: each result is rounded to 8 bits."""
    for step in rng.permutation(2):
        if step == 0:
            pixels = pixels * np.float32(rng.uniform(1 - config.brightness, 1 + config.brightness))
        else:
            factor = np.float32(rng.uniform(1 - config.contrast, 1 + config.contrast))
            mean = np.float32(np.floor((pixels @ _LUMA).mean() + 0.5))
            pixels = pixels * factor + mean * (1 - factor)
        pixels = np.floor(np.clip(pixels, 0, 255))
    return pixels


def _erase(tensor: npt.NDArray[np.float32], config: ReidAugmentation, rng: Rng) -> None:
    """Fill a rectangle with ImageNet's mean. torchreid does so after normalising, and so do we."""
    _, height, width = tensor.shape
    box = _box(rng, height, width, config.erase_area, 0.3)
    if box is None:
        return
    tall, wide = box
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    tensor[:, top : top + tall, left : left + wide] = MEAN[:, None, None]


def _box(rng: Rng, height: int, width: int, area: tuple[float, float], ratio: float) -> tuple[int, int] | None:
    """Height and width of a random rectangle inside the image, its aspect ratio within ratio..1/ratio."""
    for _ in range(100):
        target = rng.uniform(*area) * height * width
        aspect = rng.uniform(ratio, 1 / ratio)
        tall, wide = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < tall < height and 0 < wide < width:
            return tall, wide
    return None
