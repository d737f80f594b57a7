"""The demo world's cameras: view, size of people, and the colours, blur and noise of the sensor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from watchme.config.demo_world import DemoWorldConfig
from watchme.data.demo.canvas import Sprite
from watchme.data.demo.streets import FURNITURE, paint_street

ADULT_METRES = 1.72


@dataclass(frozen=True)
class Sensor:
    """What a camera makes of the light: tint, exposure, haze, softness and noise."""

    tint: tuple[float, float, float]  # gain of red, green and blue
    exposure: float  # gain of all three
    haze: float  # share of flat grey mixed in, 0 to 1
    saturation: float  # 1 keeps colours, 0 makes them grey
    blur: float  # standard deviation of the softness, pixels of a 320 px frame
    noise: float  # standard deviation of the noise, grey levels

    def develop(self, light: NDArray[np.float32], rng: np.random.Generator, contrast: float) -> NDArray[np.uint8]:
        """Turn the light of a scene, RGB of shape (height, width, 3), 0 to 255, into the picture of the camera.

        `rng` gives the noise and the drift of the daylight. `contrast` is how far this sensor differs from a plain one:
        0 not at all, 1 as described.
        """
        tint = 1 + contrast * (np.asarray(self.tint, dtype=np.float32) - 1)
        exposure = (1 + contrast * (self.exposure - 1)) * float(rng.uniform(0.93, 1.07))
        haze, saturation = contrast * self.haze, 1 + contrast * (self.saturation - 1)
        grey = light.mean(axis=2, keepdims=True)
        seen = (grey + saturation * (light - grey)) * (tint * np.float32(exposure))
        seen = (1 - haze) * seen + haze * np.float32(190)
        softness = self.blur * contrast * light.shape[0] / 320
        image = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
        soft = np.asarray(image.filter(ImageFilter.GaussianBlur(softness)), dtype=np.float32)
        noise = rng.standard_normal(soft.shape, dtype=np.float32) * np.float32(1 + contrast * self.noise)
        return np.clip(soft + noise, 0, 255).astype(np.uint8)


# Fixed rather than drawn, so that every seed gives a world of about the same difficulty.
SENSORS: tuple[Sensor, ...] = (
    Sensor(tint=(1.16, 1.0, 0.76), exposure=1.05, haze=0.0, saturation=1.1, blur=0.4, noise=2),
    Sensor(tint=(0.78, 0.95, 1.2), exposure=0.62, haze=0.0, saturation=0.85, blur=0.6, noise=5),
    Sensor(tint=(1.0, 1.05, 0.97), exposure=1.05, haze=0.38, saturation=0.9, blur=0.7, noise=3),
    Sensor(tint=(0.92, 1.1, 0.8), exposure=0.8, haze=0.08, saturation=0.75, blur=1.0, noise=8),
    Sensor(tint=(1.12, 0.9, 1.08), exposure=0.9, haze=0.15, saturation=1.0, blur=0.5, noise=4),
    Sensor(tint=(0.9, 1.0, 1.15), exposure=1.3, haze=0.1, saturation=0.8, blur=0.8, noise=3),
)


@dataclass(frozen=True)
class Piece:
    """A piece of street furniture: where its left and upper edges are and where it stands, pixels."""

    sprite: Sprite
    left: int
    top: int
    ground: float


@dataclass(frozen=True)
class Camera:
    """A camera and the street before it."""

    number: int  # from 1
    size: int  # side of its square frames, pixels
    street: NDArray[np.float32]  # the empty street, RGB of shape (size, size, 3), 0 to 255
    furniture: tuple[Piece, ...]  # what people can be hidden by
    horizon: float  # y of the horizon, pixels
    lens: float  # height of an adult over the distance of their feet below the horizon
    near: tuple[float, float]  # smallest and largest y that people's feet are seen at, pixels
    sensor: Sensor  # what it does to colours

    def adult_height(self, ground: float) -> float:
        """Return the height in pixels of an average adult whose feet are at y = `ground`."""
        return self.lens * (ground - self.horizon)


# Horizon, height of the nearest adult, and the range of their feet, all as shares of the frame's side.
VIEWS: tuple[tuple[float, float, tuple[float, float]], ...] = (
    (0.34, 0.62, (0.66, 0.97)),
    (0.28, 0.52, (0.58, 0.96)),
    (0.38, 0.66, (0.70, 0.99)),
    (0.22, 0.46, (0.56, 0.95)),
    (0.32, 0.58, (0.64, 0.97)),
    (0.26, 0.50, (0.58, 0.96)),
)


def build_camera(number: int, config: DemoWorldConfig) -> Camera:
    """Set up camera `number`, from 1: paint its street, place its furniture, choose its sensor."""
    rng = np.random.default_rng((config.seed, 1, number))
    size = config.frame_size
    horizon, nearest, (low, high) = VIEWS[number - 1]
    lens = nearest / (high - horizon)
    pieces: list[Piece] = []
    kinds = rng.permutation(len(FURNITURE))[:3]
    for slot, kind in enumerate(kinds):
        # One piece in each third of the street, so that they do not stand in each other.
        # Most people walk in front of it: what hides half of the street hides half of the people.
        ground = float(rng.uniform(low, low + 0.4 * (high - low))) * size
        metre = lens * (ground - horizon * size) / ADULT_METRES
        sprite = FURNITURE[int(kind)](rng, metre)
        x = round(size * (slot + float(rng.uniform(0.25, 0.75))) / 3)
        pieces.append(Piece(sprite, x - sprite.anchor[0], round(ground) - sprite.anchor[1], ground))
    return Camera(
        number=number,
        size=size,
        street=paint_street(number - 1, size, horizon, rng),
        furniture=tuple(pieces),
        horizon=horizon * size,
        lens=lens,
        near=(low * size, high * size),
        sensor=SENSORS[number - 1],
    )
