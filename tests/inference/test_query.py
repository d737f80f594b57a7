"""The person of a query picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inference.drawn import COLOURS, Pixels, Sighted
from watchme.inference.query import read_queries


class Distant(Sighted):
    """Sees nobody who is taller than 0.6 of an image, as a detector that was trained on a street."""

    def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        found = zip(super().detect(images), images, strict=True)
        return [rows[rows[:, 3] - rows[:, 1] <= 0.6 * len(image)] for rows, image in found]


@pytest.mark.parametrize("height", [60, 90, 100])
def test_a_person_who_fills_the_picture_is_found_where_she_is(height: int, tmp_path: Path) -> None:
    pixels = np.full((101, 61, 3), 110, np.uint8)
    pixels[1 : 1 + height, 7:47] = COLOURS[0]
    Image.fromarray(pixels).save(tmp_path / "anna.png")
    (found,) = read_queries([str(tmp_path / "anna.png")], Distant(), 0.25, None)
    assert found.boxes[:, :4].tolist() == [[7, 1, 47, 1 + height]]
    assert found.crop.shape == (height, 40, 3)
    assert found.note == ""
