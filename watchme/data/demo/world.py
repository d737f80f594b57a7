"""Writes the demo world as a YOLO dataset, a Market-1501 dataset and a person-search dataset.

Every identity walks once through the view of every camera. The walks of the training identities give the detector's
training and validation frames and the re-ID training crops; those of the test identities give the detector's test
frames, the queries and the gallery. Who is where in these frames is what person search is tested on, with the same
queries.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from watchme.config.demo_world import DemoWorldConfig
from watchme.core.resources import available_cores
from watchme.data.demo.cameras import Camera, build_camera
from watchme.data.demo.identities import Person, draw_identities
from watchme.data.demo.scenes import Box, Sighting, Walker, paint_scene, plan_walks

SEEN = 0.35
"""Walkers of whom less is visible are taken out of a frame."""
LABELLED = 0.25
"""From this visible share on, a person is labelled for the detector."""
CROPPED = 0.65
"""From this visible share on, a person's crop belongs to re-identification; below it is junk (-1)."""
SMALLEST = 8
"""A box's least side, pixels."""
_QUALITY = 92
_TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"
_FRAME_STEP = 25  # frames between two moments, as of a camera with 25 frames a second


@dataclass(frozen=True)
class Shot:
    """One frame of one camera."""

    camera: int  # number from 1
    frame: int  # frame number, unique in the camera
    part: str  # train, val or test
    pixels: NDArray[np.uint8]  # RGB of shape (size, size, 3), uint8
    sightings: list[Sighting]  # who is in it


def write_world(config: DemoWorldConfig, root: Path) -> None:
    """Draw the world and write the datasets below `root` (`detection/`, `reid/`, `search/`)."""
    people = draw_identities(config.identities, np.random.default_rng((config.seed, 0)))
    for folder in (_TRAIN, _QUERY, _GALLERY):
        (root / "reid" / folder).mkdir(parents=True, exist_ok=True)
    # Threads, as most of the time is spent in Pillow and NumPy, which let others run; chance is each camera's own.
    with ThreadPoolExecutor(min(config.cameras, available_cores())) as pool:
        filmed = list(pool.map(lambda number: _film(number, people, config, root), range(1, config.cameras + 1)))
    crops = [crop for found, _ in filmed for crop in found]
    queries = _choose_queries(crops, np.random.default_rng((config.seed, 4)))
    for crop in crops:
        crop.write(root / "reid" / (_QUERY if crop.name in queries else _GALLERY))
    _write_search(root, [frame for _, frames in filmed for frame in frames], queries)
    (root / "detection" / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\n\nnc: 1\nnames: ['person']\n", encoding="utf-8"
    )


def _film(
    number: int, people: Sequence[Person], config: DemoWorldConfig, root: Path
) -> "tuple[list[_Crop], list[_Seen]]":
    """Write one camera's frames and training crops; return its test crops, whose place is not known yet, and who is
    in its test frames."""
    rng = np.random.default_rng((config.seed, 3, number))
    tested: list[_Crop] = []
    frames: list[_Seen] = []
    for shot in shots(build_camera(number, config), people, config):
        _write_frame(root / "detection", shot)
        if shot.part == "test":
            labelled = tuple(sighting for sighting in shot.sightings if _is_labelled(sighting))
            frames.append(_Seen(shot.camera, shot.frame, labelled))
        for crop in _cut_out(shot, rng):
            if shot.part == "test":
                tested.append(crop)
            elif crop.pid > 0:
                crop.write(root / "reid" / _TRAIN)
    return tested, frames


def shots(camera: Camera, people: Sequence[Person], config: DemoWorldConfig) -> Iterator[Shot]:
    """All frames of one camera, in order of time."""
    rng = np.random.default_rng((config.seed, 2, camera.number))
    first_test = test_start(config)
    trained = plan_walks(camera, range(1, first_test), config.walk_length, config.crowd, rng)
    tested = plan_walks(camera, range(first_test, config.identities + 1), config.walk_length, config.crowd, rng)
    trained, tested = _with_empty(trained, config.empty_share, rng), _with_empty(tested, config.empty_share, rng)
    first_val = len(trained) - max(1, round(config.val_share * len(trained)))
    for moment, walkers in enumerate([*trained, *tested]):
        part = "test" if moment >= len(trained) else "val" if moment >= first_val else "train"
        light, sightings = paint_scene(camera, walkers, people)
        # People who are all but hidden are removed: a head behind a car is neither a fair label nor a fair mistake.
        seen = [walker for walker, sighting in zip(walkers, sightings, strict=True) if sighting.visible >= SEEN]
        if len(seen) < len(walkers):
            light, sightings = paint_scene(camera, seen, people)
        pixels = camera.sensor.develop(light, rng, config.camera_contrast)
        yield Shot(camera.number, 1 + moment * _FRAME_STEP, part, pixels, sightings)


def test_start(config: DemoWorldConfig) -> int:
    """The first identity that is kept for testing; those before it are trained on."""
    return config.identities - min(max(round(config.test_share * config.identities), 2), config.identities - 2) + 1


def _with_empty(plan: list[list[Walker]], share: float, rng: np.random.Generator) -> list[list[Walker]]:
    """Put moments without anybody at random places."""
    result = list(plan)
    for _ in range(round(share * len(plan))):
        result.insert(int(rng.integers(len(result) + 1)), [])
    return result


def _is_labelled(sighting: Sighting) -> bool:
    left, top, right, bottom = sighting.box
    return sighting.visible >= LABELLED and min(right - left, bottom - top) >= SMALLEST


def _frame_name(camera: int, frame: int) -> str:
    return f"c{camera}_{frame:06d}"


def _write_frame(root: Path, shot: Shot) -> None:
    name = _frame_name(shot.camera, shot.frame)
    images, labels = root / "images" / shot.part, root / "labels" / shot.part
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shot.pixels).save(images / f"{name}.jpg", quality=_QUALITY)
    height, width = shot.pixels.shape[:2]
    lines = []
    for sighting in shot.sightings:
        if not _is_labelled(sighting):
            continue
        left, top, right, bottom = sighting.box
        centre = (left + right) / 2 / width, (top + bottom) / 2 / height
        lines.append(f"0 {centre[0]:.6f} {centre[1]:.6f} {(right - left) / width:.6f} {(bottom - top) / height:.6f}\n")
    if lines:
        (labels / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


def _crop_name(pid: int, camera: int, frame: int, index: int) -> str:
    return f"{'-1' if pid < 0 else f'{pid:04d}'}_c{camera}s1_{frame:06d}_{index:02d}.jpg"


@dataclass(frozen=True)
class _Seen:
    """The people in a test frame, as far as they are labelled."""

    camera: int
    frame: int
    labelled: tuple[Sighting, ...]


@dataclass(frozen=True)
class _Crop:
    pid: int
    camera: int
    frame: int
    index: int
    pixels: NDArray[np.uint8]

    @property
    def name(self) -> str:
        return _crop_name(self.pid, self.camera, self.frame, self.index)

    def write(self, folder: Path) -> None:
        Image.fromarray(self.pixels).save(folder / self.name, quality=_QUALITY)


def _cut_out(shot: Shot, rng: np.random.Generator) -> list[_Crop]:
    """Cut people out as a detector would; those who are mostly hidden are junk (-1)."""
    boxes = [
        (sighting.pid if sighting.visible >= CROPPED else -1, sighting.box)
        for sighting in shot.sightings
        if _is_labelled(sighting)
    ]
    if shot.part == "test" and not shot.sightings:
        # What a detector takes for a person where there is none: Market-1501's distractors.
        size = shot.pixels.shape[0]
        tall = int(rng.integers(size // 5, size // 2))
        left, top = int(rng.integers(size - tall // 2)), int(rng.integers(size - tall))
        boxes.append((0, (left, top, left + tall // 2, top + tall)))
    return [
        _Crop(pid, shot.camera, shot.frame, index, _cut(shot.pixels, box, rng))
        for index, (pid, box) in enumerate(boxes, 1)
    ]


def _cut(pixels: NDArray[np.uint8], box: Box, rng: np.random.Generator) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    shift = rng.normal(0, 0.03, 4) * (right - left, bottom - top, right - left, bottom - top)
    corners = np.round(np.array(box) + shift).astype(int)
    x0, y0 = max(0, corners[0]), max(0, corners[1])
    x1, y1 = min(pixels.shape[1], max(corners[2], x0 + 4)), min(pixels.shape[0], max(corners[3], y0 + 4))
    return pixels[y0:y1, x0:x1]


def _choose_queries(crops: Sequence[_Crop], rng: np.random.Generator) -> set[str]:
    """Names of one crop of each identity and camera that has a match from another camera."""
    views: dict[int, dict[int, list[_Crop]]] = {}
    for crop in crops:
        if crop.pid > 0:
            views.setdefault(crop.pid, {}).setdefault(crop.camera, []).append(crop)
    queries = set()
    for by_camera in views.values():
        for camera, own in by_camera.items():
            # A match stays in the gallery: another camera has a crop besides the one that is its query.
            if any(other != camera and len(found) > 1 for other, found in by_camera.items()):
                queries.add(own[int(rng.integers(len(own)))].name)
    return queries


def _write_search(root: Path, frames: Sequence[_Seen], queries: Collection[str]) -> None:
    """Write who is where in the test frames, half-hidden people too, in the format of data/person_search/own_json.py.

    The people asked for are those of the `queries`, names of crops, of re-identification.
    """
    listed: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    for seen in frames:
        name = f"{_frame_name(seen.camera, seen.frame)}.jpg"
        people = [{"id": sighting.pid, "box": list(sighting.box)} for sighting in seen.labelled]
        listed.append({"image": name, "camera": seen.camera, "people": people})
        for index, person in enumerate(people, 1):
            if _crop_name(seen.labelled[index - 1].pid, seen.camera, seen.frame, index) in queries:
                asked.append({"image": name, **person})
    folder = root / "search"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        f' "{key}": [\n' + ",\n".join(f"  {json.dumps(entry)}" for entry in entries) + "\n ]"
        for key, entries in (("frames", listed), ("queries", asked))
    ]
    text = '{\n "images": "../detection/images/test",\n' + ",\n".join(parts) + "\n}\n"
    (folder / "annotations.json").write_text(text, encoding="utf-8")
