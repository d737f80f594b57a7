"""The demo film: the same frames for a seed, people who are where the truth says, and strangers to the demo world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from watchme.data.demo import DemoFilm, DemoFilmConfig, DemoWorldConfig, ensure_demo_film
from watchme.data.demo import film as film_module
from watchme.data.demo.film import SCENES, Scene
from watchme.data.demo.identities import Person, draw_identities

SMALL = DemoFilmConfig(seconds=9, fps=4, frame_size=160, people=4)
Truth = dict[int, dict[int, NDArray[np.float64]]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> DemoFilm:
    """A small film, drawn once."""
    return ensure_demo_film(SMALL, tmp_path_factory.mktemp("film"))


def frames_of(video: Path) -> list[NDArray[np.uint8]]:
    import cv2

    capture, frames = cv2.VideoCapture(str(video)), []
    while (read := capture.read())[0]:
        frames.append(read[1][:, :, ::-1])
    return frames


def truth_of(film: DemoFilm) -> Truth:
    """Frame -> identity -> left, top, width, height, visibility."""
    found: Truth = {}
    for line in film.truth.read_text().splitlines():
        values = [float(value) for value in line.split(",")]
        found.setdefault(int(values[0]), {})[int(values[1])] = np.array([*values[2:6], values[8]])
    return found


def film_people(config: DemoFilmConfig) -> list[Person]:
    return draw_identities(config.people, np.random.default_rng((config.seed, 5)))


def test_a_seed_gives_the_same_film(film: DemoFilm, tmp_path: Path) -> None:
    again = ensure_demo_film(SMALL, tmp_path)
    assert again.created
    assert again.truth.read_bytes() == film.truth.read_bytes()
    assert all(map(np.array_equal, frames_of(film.video), frames_of(again.video)))
    assert [path.read_bytes() for path in again.portraits] == [path.read_bytes() for path in film.portraits]


def test_a_drawn_film_is_used_again(film: DemoFilm) -> None:
    again = ensure_demo_film(SMALL, film.root.parent)
    assert not again.created
    assert again.video == film.video


def test_the_film_has_the_frames_and_the_pace_that_were_asked_for(film: DemoFilm) -> None:
    import cv2

    frames = frames_of(film.video)
    assert len(frames) == SMALL.frames == 36
    assert frames[0].shape == (160, 160, 3)
    assert cv2.VideoCapture(str(film.video)).get(cv2.CAP_PROP_FPS) == SMALL.fps
    assert max(truth_of(film)) <= 36


def test_everybody_walks_through_every_scene(film: DemoFilm) -> None:
    truth, length = truth_of(film), SMALL.frames // len(SCENES)
    for scene in range(len(SCENES)):
        numbers = range(scene * length + 1, (scene + 1) * length + 1)
        assert {pid for number in numbers for pid in truth.get(number, {})} == {1, 2, 3, 4}


def test_people_enter_and_leave_at_the_edges() -> None:
    scene = Scene(1, film_people(SMALL), DemoFilmConfig(seconds=180, fps=8, frame_size=96, people=4))
    before: dict[int, Any] = {}
    for number in range(8 * 60):
        seen = {sighting.pid: sighting.box for sighting in scene.frame(number)[1]}
        for pid, box in seen.items():
            if number and pid not in before:
                assert box[0] <= 12 or box[2] >= 84, f"{pid} appears at {box} of frame {number}"
        before = seen


def test_a_person_is_where_the_truth_says() -> None:
    """Without the person the pixels of their box are other ones, and those elsewhere the same, but for the shadow."""
    scene = Scene(2, film_people(SMALL), SMALL)
    checked = 0
    for number in range(12):
        pixels, sightings = scene.frame(number)
        for sighting in [each for each in sightings if each.visible > 0.9]:
            everybody, scene.walks = scene.walks, [walk for walk in scene.walks if walk.pid != sighting.pid]
            without, _ = scene.frame(number)
            scene.walks = everybody
            changed = np.abs(pixels.astype(int) - without).max(axis=2) > 24
            left, top, right, bottom = sighting.box
            assert changed[top:bottom, left:right].mean() > 0.25
            assert abs(int(np.flatnonzero(changed.any(axis=1))[0]) - top) <= 3
            changed[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = False
            shadow = changed[bottom - round(0.15 * (bottom - top)) :]
            assert changed.sum() - shadow.sum() < 12
            checked += 1
    assert checked > 5


def test_the_look_of_a_scene_is_its_cameras() -> None:
    """Against `Sensor.develop`, whose light does not drift and whose noise is nil here."""

    class Still:
        def uniform(self, low: float, high: float) -> float:
            return (low + high) / 2

        def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> NDArray[np.float32]:
            return np.zeros(shape, np.float32)

        def normal(self, mean: float, deviation: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
            return np.zeros(shape)

    rng: Any = Still()
    for number in SCENES:
        camera = Scene(number, film_people(SMALL), SMALL).camera
        light = np.round(np.clip(camera.street, 0, 255)).astype(np.float32)
        ours = film_module._Look(camera, 0.3, rng).develop(light, 0)
        assert np.abs(ours.astype(int) - camera.sensor.develop(light, rng, 0.3)).max() <= 3


def test_nobody_of_the_film_is_trained_on() -> None:
    world = DemoWorldConfig()
    trained = draw_identities(world.identities, np.random.default_rng((world.seed, 0)))
    assert not set(trained) & set(film_people(DemoFilmConfig()))


def test_a_portrait_shows_the_person_upright_in_the_middle(film: DemoFilm) -> None:
    scene = Scene(film_module.QUERY_CAMERA, film_people(SMALL), SMALL)
    assert len(film.portraits) == 4
    for pid, path in enumerate(film.portraits, 1):
        width, height = Image.open(path).size
        assert 1.3 < height / width < 2.2
        assert scene.portrait(pid).shape == (height, width, 3)
        one, other = scene.portrait(pid).astype(int), scene.portrait(pid % 4 + 1).astype(int)
        assert one.shape != other.shape or np.abs(one - other).mean() > 2
