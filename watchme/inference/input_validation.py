"""Models that look at what they are given: images of the wrong shape or kind are refused, with the way out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchme.core.interfaces import Detector, Embedder

Image8 = NDArray[np.uint8]


class CheckedDetector:
    """A detector whose images are checked. See `interfaces.Detector`."""

    def __init__(self, model: Detector) -> None:
        self._model = model
        self.assumed = model.assumed

    def detect(self, images: Sequence[Image8]) -> list[NDArray[np.float32]]:
        """Find people in images; none in no images.

        Raises:
            ValueError: If an image is not as `checked_images` wants it.
        """
        checked = checked_images(images)
        return self._model.detect(checked) if checked else []


class CheckedEmbedder:
    """A re-ID model whose crops are checked. See `interfaces.Embedder`."""

    def __init__(self, model: Embedder) -> None:
        self._model = model
        self.assumed = model.assumed

    def embed(self, crops: Sequence[Image8]) -> NDArray[np.float32]:
        """Embed crops; none give an array of shape (0, D).

        Raises:
            ValueError: If a crop is not as `checked_images` wants it.
        """
        return self._model.embed(checked_images(crops))


def checked_images(images: Any) -> list[Image8]:
    """Images as models take them: RGB, uint8, each of shape (height, width, 3), of any sizes.

    Whether channels are in the order RGB cannot be seen; OpenCV reads BGR: `image[:, :, ::-1]`.

    Args:
        images: A list of NumPy arrays, or one array of shape (n, height, width, 3).

    Raises:
        ValueError: With the image's number, what it is, and how to turn it into what is wanted.
    """
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ValueError(f"give a list of images, [image]; found one array of shape {images.shape}")
    if isinstance(images, (str, bytes)):
        raise ValueError(f"give a list of images as arrays, not a path: numpy.asarray(PIL.Image.open({images!r}))")
    return [_checked(image, number) for number, image in enumerate(images)]


def _checked(image: Any, number: int) -> Image8:
    what = f"image {number}"
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{what} is a {type(image).__name__}; give a NumPy array: numpy.asarray(image)")
    shape = f"{what} has the shape {image.shape}"
    if image.ndim == 2:
        raise ValueError(f"{shape}, which is grey; RGB is (height, width, 3): numpy.stack([image] * 3, axis=2)")
    if image.ndim != 3:
        raise ValueError(f"{shape}; RGB is (height, width, 3)")
    if 0 in image.shape:
        raise ValueError(f"{shape} and no pixels; leave empty crops out")
    if image.shape[2] == 4:
        raise ValueError(f"{shape}, with four channels; without the last: image[:, :, :3]")
    if image.shape[2] == 1:
        raise ValueError(f"{shape}, which is grey; RGB: numpy.repeat(image, 3, axis=2)")
    if image.shape[2] != 3:
        first = "; channels come last here: image.transpose(1, 2, 0)" if image.shape[0] in (1, 3, 4) else ""
        raise ValueError(f"{shape}; RGB is (height, width, 3){first}")
    if image.dtype != np.uint8:
        raise ValueError(f"{what} is of the type {image.dtype}; pixels are uint8, 0 to 255{_to_bytes(image)}")
    return image


def _to_bytes(image: NDArray[Any]) -> str:
    if np.issubdtype(image.dtype, np.floating) and image.size and image.min() >= 0 and image.max() <= 1:
        return ": (image * 255).round().astype(numpy.uint8)"
    return ": image.astype(numpy.uint8), if that is their range"
