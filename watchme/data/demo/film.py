"""Draws the demo film: the same people walk before one camera after the other, and it is known who is where."""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from watchme.config.demo_world import DemoFilmConfig, DemoWorldConfig
from watchme.core.resources import available_cores
from watchme.data.demo.cameras import ADULT_METRES, Camera, build_camera
from watchme.data.demo.identities import Person, draw_identities
from watchme.data.demo.pedestrian import Pose
from watchme.data.demo.scenes import Sighting, Walker, paint_scene

SCENES = (1, 2, 3)
"""Cameras of the film's scenes, in order."""
QUERY_CAMERA = 4
"""The camera of the query pictures, which the film does not show."""
_EARLY = 3.0  # seconds before a scene in which the first walks begin, so that it does not open on an empty street
_PACE = (0.7, 1.2)  # metres a second: strolling, so that a walk fills a few seconds of a narrow view
_STRIDE = 1.4  # metres of two steps
_NOISES = 8  # fields of noise that a scene's frames take in turn
_QUALITY = 92


@dataclass(frozen=True)
class Walk:
    """A straight way over the ground at a constant pace, from beyond one edge of the view to beyond the other."""

    pid: int  # who, from 1
    start: float  # when it begins, seconds of the scene; below 0: before it
    begin: tuple[float, float]  # (x, z) in metres: to the right of the camera's axis, and away from the camera
    end: tuple[float, float]  # the same of its end
    pace: float  # metres a second
    phase: float  # place in the walking cycle at its beginning, radians

    def at(self, camera: Camera, seconds: float) -> Walker | None:
        """Return the walker at a moment of the scene; None before and after the walk."""
        dx, dz = self.end[0] - self.begin[0], self.end[1] - self.begin[1]
        way, gone = math.hypot(dx, dz), self.pace * (seconds - self.start)
        if not 0 <= gone <= way:
            return None
        x, z = self.begin[0] + dx * gone / way, self.begin[1] + dz * gone / way
        below = _depth(camera) / z
        pose = Pose(math.atan2(dx, -dz), self.phase + 2 * math.pi * gone / _STRIDE)
        return Walker(self.pid, camera.size / 2 + x * _metre(camera, below), camera.horizon + below, pose)


class Scene:
    """The part of the film that one camera shows.

    Args:
        number: the camera, from 1.
        people: everybody; each walks through the view once.
        config: parameters of the film.
    """

    def __init__(self, number: int, people: Sequence[Person], config: DemoFilmConfig) -> None:
        world = DemoWorldConfig(seed=config.seed, frame_size=config.frame_size)
        self.camera = build_camera(number, world)
        self.config = config
        self.people = people
        self.length = config.seconds / len(SCENES)
        rng = np.random.default_rng((config.seed, 6, number))
        self.walks = list(_plan(self.camera, len(people), self.length, rng))
        self._look = _Look(self.camera, world.camera_contrast, rng)

    def frame(self, number: int) -> tuple[NDArray[np.uint8], list[Sighting]]:
        """Draw a frame of the scene, counted from 0: RGB of shape (size, size, 3), and who is seen in it."""
        seconds = number / self.config.fps
        walkers = [found for walk in self.walks if (found := walk.at(self.camera, seconds)) is not None]
        light, sightings = paint_scene(self.camera, walkers, self.people)
        seen = [sighting for sighting in sightings if sighting.box[2] > sighting.box[0]]
        return self._look.develop(light, number), seen

    def portrait(self, pid: int) -> NDArray[np.uint8]:
        """Draw somebody alone, coming toward the camera: RGB of the part of the frame around them."""
        camera, size = self.camera, self.camera.size
        ground = camera.near[0] + 0.6 * (camera.near[1] - camera.near[0])
        walker = Walker(pid, size / 2, ground, Pose(0.3 if pid % 2 else -0.3, 0.5 * pid))
        light, ((sighting),) = paint_scene(camera, [walker], self.people)
        left, top, right, bottom = sighting.box
        margin = round(0.35 * (bottom - top))
        rows = slice(max(0, top - margin), bottom + margin)
        return self._look.develop(light, pid)[rows, max(0, left - margin) : right + margin]


class _Look:
    """What `Sensor.develop` makes of the light, without its drift, fast enough for a film.

    The colours are one matrix and OpenCV applies it; the noise is drawn once and shifted from frame to frame.
    """

    def __init__(self, camera: Camera, contrast: float, rng: np.random.Generator) -> None:
        sensor = camera.sensor
        gain = (1 + contrast * (np.asarray(sensor.tint) - 1)) * (1 + contrast * (sensor.exposure - 1))
        haze, saturation = contrast * sensor.haze, 1 + contrast * (sensor.saturation - 1)
        mixed = saturation * np.eye(3) + (1 - saturation) / 3
        self._matrix = np.column_stack([(1 - haze) * gain[:, None] * mixed, np.full(3, haze * 190.0)])
        self._blur = sensor.blur * contrast * camera.size / 320
        deviation = 1 + contrast * sensor.noise
        self._noise = [rng.normal(0, deviation, (camera.size, camera.size, 3)).astype(np.int16) for _ in range(_NOISES)]

    def develop(self, light: NDArray[np.float32], number: int) -> NDArray[np.uint8]:
        import cv2

        seen = cv2.transform(light.astype(np.uint8), self._matrix)
        soft = cv2.GaussianBlur(seen, (0, 0), self._blur) if self._blur > 0 else seen
        noise = np.roll(self._noise[number % _NOISES], 37 * number, axis=(0, 1))
        return np.asarray(np.clip(soft + noise, 0, 255), np.uint8)


def write_film(config: DemoFilmConfig, folder: Path) -> None:
    """Draw the film and write what `ensure_demo_film` says into `folder`."""
    people = draw_identities(config.people, np.random.default_rng((config.seed, 5)))
    scenes = [Scene(number, people, config) for number in SCENES]
    lines: list[str] = []
    with _Video(folder / "street.mp4", config) as video:
        for number, (pixels, sightings) in enumerate(_frames(scenes, config), 1):
            video.add(pixels)
            lines += [_line(number, sighting) for sighting in sightings]
    (folder / "gt.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "people").mkdir()
    portraits = Scene(QUERY_CAMERA, people, config)
    for pid in range(1, len(people) + 1):
        Image.fromarray(portraits.portrait(pid)).save(folder / "people" / f"person{pid:02d}.jpg", quality=_QUALITY)
    starts = [config.frames * place // len(scenes) + 1 for place in range(len(scenes))]
    shown = [{"camera": camera, "first_frame": first} for camera, first in zip(SCENES, starts, strict=True)]
    (folder / "scenes.json").write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")


def _frames(scenes: Sequence[Scene], config: DemoFilmConfig) -> Iterator[tuple[NDArray[np.uint8], list[Sighting]]]:
    per_scene = config.frames // len(scenes)
    todo = [(scene, number) for scene in scenes for number in range(per_scene)]
    # Threads, as Pillow, NumPy and OpenCV let others run; each frame follows from its number alone.
    with ThreadPoolExecutor(available_cores()) as pool:
        yield from pool.map(lambda each: each[0].frame(each[1]), todo)


def _line(frame: int, sighting: Sighting) -> str:
    """A line of MOTChallenge: frame, identity, left, top, width, height, 1, class of pedestrians, visibility."""
    left, top, right, bottom = sighting.box
    return f"{frame},{sighting.pid},{left},{top},{right - left},{bottom - top},1,1,{sighting.visible:.3f}\n"


class _Video:
    """An MP4 file that frames are added to."""

    def __init__(self, path: Path, config: DemoFilmConfig) -> None:
        import cv2

        size = (config.frame_size, config.frame_size)
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), config.fps, size)
        if not self._writer.isOpened():
            raise OSError(f"OpenCV cannot write {path}: this build has no MPEG-4 encoder")

    def __enter__(self) -> "_Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.release()

    def add(self, pixels: NDArray[np.uint8]) -> None:
        self._writer.write(np.ascontiguousarray(pixels[:, :, ::-1]))


def _plan(camera: Camera, people: int, length: float, rng: np.random.Generator) -> Iterator[Walk]:
    """Let everybody walk once from one side of the view to the other, beginning at even intervals."""
    interval = (length + _EARLY) / people
    for place, pid in enumerate(rng.permutation(people) + 1):
        grounds = rng.uniform(camera.near[0], camera.near[1], 2)
        depths = [_depth(camera) / (float(ground) - camera.horizon) for ground in grounds]
        # Far enough out at either end that nobody appears or vanishes within the view.
        sides = [camera.size / 2 / _metre(camera, _depth(camera) / depth) + 0.6 for depth in depths]
        way = 1 if rng.random() < 0.5 else -1
        yield Walk(
            pid=int(pid),
            start=interval * (place + float(rng.uniform(-0.3, 0.3))) - _EARLY,
            begin=(-way * sides[0], depths[0]),
            end=(way * sides[1], depths[1]),
            pace=float(rng.uniform(*_PACE)),
            phase=float(rng.uniform(0, 2 * math.pi)),
        )


def _depth(camera: Camera) -> float:
    """Distance from the camera times pixels below the horizon: focal length (one frame's side) x height of the lens."""
    return camera.size * ADULT_METRES / camera.lens


def _metre(camera: Camera, below: float) -> float:
    """Pixels of a metre at the distance that shows so many pixels below the horizon."""
    return camera.lens * below / ADULT_METRES
