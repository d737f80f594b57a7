"""Images of the wrong shape or kind are refused, with what turns them into the right one."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.inference.input_validation import CheckedDetector, CheckedEmbedder, checked_images

RGB = np.zeros((20, 10, 3), np.uint8)


class Model:
    """Counts what it gets."""

    assumed: tuple[str, ...] = ("it is said",)

    def detect(self, images: Any) -> list[NDArray[np.float32]]:
        return [np.zeros((len(image), 5), np.float32) for image in images]

    def embed(self, crops: Any) -> NDArray[np.float32]:
        return np.ones((len(crops), 4), np.float32)


WRONG: list[tuple[Any, str]] = [
    ([RGB, RGB[:, :, 0]], r"image 1 has the shape \(20, 10\), which is grey.*numpy\.stack"),
    ([RGB[:, :, :1]], r"grey.*numpy\.repeat"),
    ([np.zeros((20, 10, 4), np.uint8)], r"four channels.*image\[:, :, :3\]"),
    ([np.zeros((3, 20, 10), np.uint8)], r"channels come last here: image\.transpose\(1, 2, 0\)"),
    ([np.zeros((20, 10, 2), np.uint8)], r"RGB is \(height, width, 3\)$"),
    ([np.zeros((0, 10, 3), np.uint8)], "no pixels"),
    ([np.zeros((20, 10, 3), np.float32)], r"float32.*\(image \* 255\)\.round\(\)"),
    ([np.full((20, 10, 3), 200.0)], r"float64; pixels are uint8, 0 to 255: image\.astype"),
    ([np.zeros((2, 20, 10, 3), np.uint8)], r"RGB is"),
    ([[1, 2]], r"image 0 is a list"),
    (RGB, r"give a list of images, \[image\]"),
    ("a.jpg", "not a path"),
]


@pytest.mark.parametrize(("images", "message"), WRONG)
def test_the_fix_is_named(images: Any, message: str) -> None:
    for call in (checked_images, CheckedDetector(Model()).detect, CheckedEmbedder(Model()).embed):
        with pytest.raises(ValueError, match=message):
            call(images)


def test_lists_and_one_array_of_images_pass() -> None:
    assert len(checked_images([RGB, RGB[:5]])) == 2
    assert len(checked_images(np.zeros((3, 20, 10, 3), np.uint8))) == 3


def test_no_images_are_nobody() -> None:
    assert CheckedDetector(Model()).detect([]) == []
    assert CheckedEmbedder(Model()).embed([]).shape == (0, 4)
    assert CheckedDetector(Model()).assumed == ("it is said",)
