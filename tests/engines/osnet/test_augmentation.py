"""Each parameter of an augmentation by its effect; their distributions are held to torchreid's elsewhere."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from watchme.engines.osnet.config import ReidAugmentation
from watchme.engines.osnet.data.augmentation import MEAN, augment, to_network

HEIGHT, WIDTH = 128, 64
BLACK, WHITE = (np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in (0, 255))
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
Pixels = npt.NDArray[np.float32]


def draws(image: npt.NDArray[np.uint8], count: int = 40, **options: Any) -> list[Pixels]:
    """Augmented images of 0..1; patches come from a white one."""
    config = ReidAugmentation(engine="osnet", **{"random_flip": 0.0, "random_crop": 0.0, "normalize": False, **options})
    return [as_network_input(image, config, np.random.default_rng(seed)) for seed in range(count)]


def as_network_input(image: npt.NDArray[np.uint8], config: ReidAugmentation, rng: np.random.Generator) -> Pixels:
    """(H, W, 3) of one augmented image."""
    augmented, erased = augment(image, config, rng, lambda rng: WHITE)
    box = torch.tensor([erased or (0, 0, 0, 0)])
    pixels = to_network(torch.from_numpy(augmented)[None], box, normalize=config.normalize)
    return pixels[0].permute(1, 2, 0).numpy()


def box(changed: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Height and width of what has changed."""
    rows, columns = np.nonzero(changed.any(axis=(1, 2)))[0], np.nonzero(changed.any(axis=(0, 2)))[0]
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def test_nothing_asked_for_changes_nothing() -> None:
    np.testing.assert_allclose(draws(NOISE, 1)[0], NOISE / np.float32(255), atol=1e-6)


def test_normalize_is_imagenets() -> None:
    (pixels,) = draws(WHITE, 1, normalize=True)
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(pixels[0, 0], expected, rtol=1e-5)


def test_flip_mirrors() -> None:
    np.testing.assert_allclose(draws(NOISE, 1, random_flip=1.0)[0], NOISE[:, ::-1] / np.float32(255), atol=1e-6)


@pytest.mark.parametrize("scale", [1.125, 2.0])
def test_crop_scale_is_how_much_a_crop_shows(scale: float) -> None:
    """Of a ramp from 0 to 255 over the width a crop spans 1 / scale."""
    ramp = np.broadcast_to(np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None], (HEIGHT, WIDTH, 3)).copy()
    spans = [float(pixels[0, -1, 0] - pixels[0, 0, 0]) for pixels in draws(ramp, random_crop=1.0, crop_scale=scale)]
    assert np.mean(spans) == pytest.approx(1 / scale, abs=0.02)


@pytest.mark.parametrize(("area", "ratio"), [((0.05, 0.06), 1.0), ((0.2, 0.3), 0.5)])
@pytest.mark.parametrize("kind", ["erase", "patch"])
def test_area_and_ratio_bound_what_is_erased_or_pasted(kind: str, area: tuple[float, float], ratio: float) -> None:
    options: dict[str, Any] = {f"random_{kind}": 1.0, f"{kind}_area": area, f"{kind}_ratio": ratio}
    for pixels in draws(BLACK, **options):
        tall, wide = box(pixels != 0)
        share = tall * wide / (HEIGHT * WIDTH)
        # A pasted patch may be turned by up to 10 degrees, which cuts black corners into it.
        slack = 0.01 if kind == "erase" else 0.03
        assert area[0] - slack <= share <= area[1] + slack
        assert ratio * 0.85 <= tall / wide <= 1.18 / ratio


def test_erased_is_imagenets_mean() -> None:
    for pixels in draws(BLACK, 5, random_erase=1.0):
        np.testing.assert_allclose(pixels[(pixels != 0).any(2)][0], MEAN, rtol=1e-6)


@pytest.mark.parametrize(("brightness", "contrast"), [(0.5, 0.0), (0.0, 0.5), (0.0, 0.0)])
def test_jitter_stays_within_brightness_and_contrast(brightness: float, contrast: float) -> None:
    """Of an image half at 60 and half at 100: brightness scales both, contrast their difference about the mean."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[HEIGHT // 2 :] = 100
    found = draws(image, 200, color_jitter=1.0, brightness=brightness, contrast=contrast)
    means = np.array([pixels.mean() for pixels in found]) * 255 / 80
    spreads = np.array([pixels[-1, 0, 0] - pixels[0, 0, 0] for pixels in found]) * 255 / 40
    for values, wanted in ((means, brightness), (spreads, max(brightness, contrast))):
        assert values.min() == pytest.approx(1 - wanted, abs=0.06)
        assert values.max() == pytest.approx(1 + wanted, abs=0.06)
