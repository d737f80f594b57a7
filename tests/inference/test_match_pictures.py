"""Pictures of matches: the match stays as it is, everybody else cannot be told any more."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from watchme.inference.frames import Image8
from watchme.inference.match_pictures import Boxes, Shown, blur_people, draw_matches
from watchme.inference.sources import open_source

MATCH, BEHIND, BEFORE = (20.0, 10.0, 60.0, 100.0), (50.0, 5.0, 90.0, 90.0), (10.0, 40.0, 40.0, 118.0)


@pytest.fixture
def image() -> Image8:
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)


def detail(image: Image8, box: tuple[float, ...]) -> float:
    """How much neighbouring pixels differ."""
    x1, y1, x2, y2 = map(int, box)
    part = image[y1:y2, x1:x2].astype(float)
    return float(np.abs(np.diff(part, axis=1)).mean())


def boxes(*found: tuple[float, ...]) -> Boxes:
    return np.array(found, np.float32).reshape(-1, 4)


def test_nothing_of_a_blurred_person_is_left(image: Image8) -> None:
    blurred = blur_people(image, boxes(BEHIND))
    assert detail(image, BEHIND) > 60
    assert detail(blurred, BEHIND) < 6
    outside = np.ones(image.shape[:2], bool)
    outside[0:97, 46:94] = False
    assert np.array_equal(blurred[outside], image[outside])


def test_the_match_stays_but_for_who_stands_before_it(image: Image8) -> None:
    blurred = blur_people(image, boxes(BEHIND, BEFORE), MATCH)
    assert np.array_equal(blurred[10:30, 45:60], image[10:30, 45:60])
    assert detail(blurred, (62, 10, 88, 88)) < 6
    assert detail(blurred, (22, 45, 38, 98)) < 6


def test_people_at_the_edge_and_tiny_ones_are_blurred_too(image: Image8) -> None:
    blurred = blur_people(image, boxes((-20, -10, 12, 30), (150, 100, 190, 140), (80, 60, 81, 61)))
    assert detail(blurred, (0, 0, 12, 30)) < 25
    assert blurred.shape == image.shape


def shown(tmp_path: Path, image: Image8, others: Callable[[Image8], Boxes] | None) -> tuple[Image8, Image8]:
    for number in range(3):
        Image.fromarray(image if number == 1 else image[::-1]).save(tmp_path / f"{number}.png")
    wanted = [Shown(7, 1, float("nan"), MATCH, "0.9")]
    files = draw_matches(open_source(tmp_path), wanted, others, tmp_path / "run")
    crop, picture = (np.asarray(Image.open(tmp_path / "run" / file)) for file in files[7])
    return crop, picture


def test_crop_and_frame_are_of_the_sighting(image: Image8, tmp_path: Path) -> None:
    crop, picture = shown(tmp_path, image, None)
    assert crop.shape == (104, 46, 3)
    assert np.abs(crop.astype(int) - image[3:107, 17:63]).mean() < 60  # noise, as JPEG; of another part it would be 85
    assert picture.shape == image.shape


def test_others_are_blurred_in_crop_and_frame(image: Image8, tmp_path: Path) -> None:
    _, plain = shown(tmp_path, image, None)
    crop, picture = shown(tmp_path, image, lambda found: boxes(MATCH, BEFORE, BEHIND))
    assert detail(picture, (65, 10, 88, 88)) < 10 < detail(plain, (65, 10, 88, 88))
    assert detail(crop, (10, 50, 20, 90)) < 10
    assert detail(picture, (45, 15, 58, 38)) > 40  # the match, where nobody is before it
