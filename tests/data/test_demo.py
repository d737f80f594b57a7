"""The demo world: the same bytes for a seed, right labels, and a re-ID split that can be scored."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

import watchme.data.demo.world as world_module
from watchme.data.demo import DemoWorld, DemoWorldConfig, ensure_demo_world
from watchme.data.demo.cameras import build_camera
from watchme.data.demo.canvas import Colour
from watchme.data.demo.identities import Person, draw_identities
from watchme.data.demo.scenes import paint_scene, plan_walks
from watchme.data.demo.world import shots, test_start

# Tests only the parts: drawn in about a second, yet every camera sees every identity.
SMALL = DemoWorldConfig(identities=9, cameras=3, frame_size=128, walk_length=3)
SPLITS = ("train", "val", "test")
NAME = re.compile(r"([-\d]+)_c(\d)")  # what readers of Market-1501 look for
FULL_NAME = re.compile(r"(-1|\d{4})_c([1-6])s([1-9])_(\d{6})_(\d{2})\.jpg")

test_start.__test__ = False  # type: ignore[attr-defined]  # a function of the world, not a test of it


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    """A small world, drawn once."""
    return ensure_demo_world(SMALL, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def default(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    """The world of `python train.py`, drawn once."""
    return ensure_demo_world(DemoWorldConfig(), tmp_path_factory.mktemp("default"))


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its relative path."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def crops(folder: Path) -> list[tuple[int, int, int]]:
    """Return (identity, camera, frame number) of every crop in a folder."""
    found = []
    for path in sorted(folder.iterdir()):
        parts = FULL_NAME.fullmatch(path.name)
        assert parts, path.name
        found.append((int(parts[1]), int(parts[2]), int(parts[4])))
    return found


def labels(path: Path) -> list[tuple[int, float, float, float, float]]:
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [(int(row[0]), float(row[1]), float(row[2]), float(row[3]), float(row[4])) for row in rows]


# ---- The cache


def test_a_seed_gives_the_same_bytes(small: DemoWorld, tmp_path: Path) -> None:
    again = ensure_demo_world(SMALL, tmp_path)
    assert again.created
    assert again.root.name == small.root.name
    assert digests(again.root) == digests(small.root)


def test_another_seed_gives_other_bytes(small: DemoWorld, tmp_path: Path) -> None:
    other = ensure_demo_world(dataclasses.replace(SMALL, seed=1), tmp_path)
    assert other.root.name != small.root.name
    pictures = {digest for name, digest in digests(other.root).items() if name.endswith(".jpg")}
    assert not pictures & set(digests(small.root).values())


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(DemoWorldConfig)])
def test_every_parameter_names_another_world(
    field: str, small: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world_module, "write_world", lambda config, root: None)
    value = getattr(SMALL, field)
    changed = value + 1 if isinstance(value, int) else value * 0.9
    other = ensure_demo_world(dataclasses.replace(SMALL, **{field: changed}), tmp_path)
    assert other.root.name != small.root.name


def test_a_drawn_world_is_used_again(small: DemoWorld) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.root.rglob("*")}
    again = ensure_demo_world(SMALL, small.root.parent)
    assert small.created
    assert not again.created
    assert dataclasses.replace(again, created=True) == small
    assert {path: path.stat().st_mtime_ns for path in again.root.rglob("*")} == before


def test_the_cache_folder_of_watchme_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(world_module, "write_world", lambda config, root: None)
    assert ensure_demo_world(SMALL).root.parent == tmp_path / "cache"


def test_an_interrupted_world_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(config: DemoWorldConfig, root: Path) -> None:
        (root / "detection").mkdir()
        (root / "detection" / "data.yaml").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world_module, "write_world", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensure_demo_world(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert ensure_demo_world(SMALL, tmp_path).created


def test_a_world_that_lost_files_is_drawn_again(small: DemoWorld, tmp_path: Path) -> None:
    """A training said that images are missing, and to convert the demo world by the command for exports."""
    damaged = tmp_path / small.root.name
    shutil.copytree(small.root, damaged)
    shutil.rmtree(damaged / "detection" / "images" / "train")
    assert ensure_demo_world(SMALL, tmp_path).created
    assert not ensure_demo_world(SMALL, tmp_path).created
    assert any((damaged / "detection" / "images" / "train").iterdir())


def test_the_remains_of_a_killed_process_are_not_taken_for_a_world(
    small: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts: list[Path] = []

    def killed(config: DemoWorldConfig, root: Path) -> None:
        drafts.append(root)

    # SIGKILL runs no clean-up: put the draft back as it was at its worst, all written but not yet named.
    monkeypatch.setattr(world_module, "write_world", killed)
    ensure_demo_world(SMALL, tmp_path / "other")
    remains = tmp_path / drafts[0].name
    (remains / "detection").mkdir(parents=True)
    monkeypatch.undo()
    found = ensure_demo_world(SMALL, tmp_path)
    assert found.created
    assert digests(found.root) == digests(small.root)


def test_two_processes_at_once_share_the_first_ones_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_world = world_module.write_world
    first: list[DemoWorld] = []

    def overtaken(config: DemoWorldConfig, root: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(world_module, "write_world", write_world)
            first.append(ensure_demo_world(config, tmp_path))
        write_world(config, root)

    monkeypatch.setattr(world_module, "write_world", overtaken)
    second = ensure_demo_world(SMALL, tmp_path)
    assert second.root == first[0].root
    assert [path.name for path in tmp_path.iterdir()] == [second.root.name]


def test_values_out_of_range_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cameras.*frame_size"):
        ensure_demo_world(DemoWorldConfig(cameras=9, frame_size=3), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- Detection


def test_data_yaml_finds_its_splits_from_its_own_folder(small: DemoWorld) -> None:
    data = yaml.safe_load((small.detection / "data.yaml").read_text())
    assert (data["nc"], data["names"]) == (1, ["person"])
    assert "path" not in data
    for split in SPLITS:
        assert any((small.detection / data[split]).glob("*.jpg"))


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_valid_and_belong_to_an_image(small: DemoWorld, split: str) -> None:
    images = {path.stem for path in (small.detection / "images" / split).glob("*.jpg")}
    files = list((small.detection / "labels" / split).glob("*.txt"))
    assert files
    assert {path.stem for path in files} <= images
    for path in files:
        rows = labels(path)
        assert rows, f"{path.name} is empty: a frame without people has no label file"
        for number, x, y, width, height in rows:
            assert number == 0
            assert min(width, height) > 0
            assert min(x - width / 2, y - height / 2) >= -1e-6
            assert max(x + width / 2, y + height / 2) <= 1 + 1e-6


def test_some_frames_hold_nobody(small: DemoWorld) -> None:
    images = list((small.detection / "images" / "train").glob("*.jpg"))
    assert 0 < len(images) - len(list((small.detection / "labels" / "train").glob("*.txt"))) < len(images) / 2


def test_images_are_square_and_of_the_size_asked_for(small: DemoWorld) -> None:
    for path in (small.detection / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((SMALL.frame_size, SMALL.frame_size), "RGB")


def dyed(person: Person, colour: Colour) -> Person:
    """Return the same body in the same clothes, all of one colour."""
    names = [field.name for field in dataclasses.fields(person)]
    colours: dict[str, Any] = {name: colour for name in names if isinstance(getattr(person, name), tuple)}
    return dataclasses.replace(person, **colours)


def extent(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return left, top, right and bottom of the pixels of a mask."""
    ys, xs = np.nonzero(mask)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_boxes_are_tight_around_what_is_seen(number: int) -> None:
    """Dye one person black, then white: what changes is what shows of them, and no mask of the painter's is used."""
    config = DemoWorldConfig(identities=12)
    camera = build_camera(number, config)
    people = draw_identities(config.identities, np.random.default_rng(number))
    plan = plan_walks(camera, range(1, 13), config.walk_length, 4.0, np.random.default_rng(number))
    checked = 0
    for walkers in plan[::3]:
        _, sightings = paint_scene(camera, walkers, people)
        assert [sighting.pid for sighting in sightings] == [walker.pid for walker in walkers]
        for sighting in sightings:
            if sighting.visible < world_module.LABELLED:
                continue
            painted = []
            for colour in ((0, 0, 0), (255, 255, 255)):
                crowd = list(people)
                crowd[sighting.pid - 1] = dyed(people[sighting.pid - 1], colour)
                painted.append(paint_scene(camera, walkers, crowd)[0])
            coverage = np.abs(painted[1] - painted[0]).max(axis=2) / 255
            # A rim pixel between may count or not; what is half covered must, and what is barely covered must not.
            inner, outer = extent(coverage > 0.5), extent(coverage > 0.25)
            assert (np.array(sighting.box)[:2] <= inner[:2] + 1).all(), (sighting, inner)
            assert (np.array(sighting.box)[2:] >= inner[2:] - 1).all(), (sighting, inner)
            assert (np.array(sighting.box)[:2] >= outer[:2] - 1).all(), (sighting, outer)
            assert (np.array(sighting.box)[2:] <= outer[2:] + 1).all(), (sighting, outer)
            checked += 1
    assert checked > 5


def test_the_share_of_a_person_that_shows_is_known() -> None:
    """Alone and in full view nearly all of a person shows; half outside the frame, about half does."""
    config = dataclasses.replace(SMALL, frame_size=320)
    camera = dataclasses.replace(build_camera(1, config), furniture=())
    people = draw_identities(1, np.random.default_rng(0))
    walker = plan_walks(camera, [1], 2, 1.0, np.random.default_rng(0))[0][0]
    middle = dataclasses.replace(walker, x=160.0, ground=camera.near[1])
    edge = dataclasses.replace(middle, x=0.0)
    (whole,), (half,) = (paint_scene(camera, [one], people)[1] for one in (middle, edge))
    assert whole.visible == pytest.approx(1, abs=0.02)
    assert 0.3 < half.visible < 0.7
    assert half.box[0] == 0


def test_labels_are_the_people_who_show(small: DemoWorld) -> None:
    people = draw_identities(SMALL.identities, np.random.default_rng((SMALL.seed, 0)))
    size = SMALL.frame_size
    compared = 0
    for shot in shots(build_camera(1, SMALL), people, SMALL):
        path = small.detection / "labels" / shot.part / f"c1_{shot.frame:06d}.txt"
        expected = [
            sighting.box for sighting in shot.sightings if sighting.visible >= world_module.LABELLED
            and min(np.subtract(sighting.box[2:], sighting.box[:2])) >= world_module.SMALLEST
        ]  # fmt: skip
        boxes = [
            ((x - w / 2) * size, (y - h / 2) * size, (x + w / 2) * size, (y + h / 2) * size)
            for _, x, y, w, h in (labels(path) if path.exists() else [])
        ]
        assert len(boxes) == len(expected)
        for box, other in zip(boxes, expected, strict=True):
            assert box == pytest.approx(other, abs=0.01)
            compared += 1
    assert compared > 10


# ---- Re-identification


def test_train_and_test_identities_are_disjoint_and_all_there(small: DemoWorld) -> None:
    first_test = test_start(SMALL)
    trained = {pid for pid, _, _ in crops(small.reid / "bounding_box_train")}
    tested = {pid for part in ("query", "bounding_box_test") for pid, _, _ in crops(small.reid / part)} - {-1, 0}
    assert trained == set(range(1, first_test))
    assert tested == set(range(first_test, SMALL.identities + 1))


def test_crops_come_from_the_frames_of_the_same_side(small: DemoWorld) -> None:
    filmed = {
        split: {
            (int(path.stem[1]), int(path.stem.split("_")[1]))
            for path in (small.detection / "images" / split).glob("*.jpg")
        }
        for split in SPLITS
    }
    assert not filmed["train"] & filmed["val"]
    assert not filmed["test"] & (filmed["train"] | filmed["val"])
    for part, frames in (
        ("bounding_box_train", filmed["train"] | filmed["val"]),
        ("query", filmed["test"]),
        ("bounding_box_test", filmed["test"]),
    ):
        assert {(camera, frame) for _, camera, frame in crops(small.reid / part)} <= frames


def test_names_read_as_market1501(small: DemoWorld) -> None:
    for path in small.reid.rglob("*.jpg"):
        found = NAME.search(path.name)
        assert found
        assert -1 <= int(found[1]) <= 1501
        assert 1 <= int(found[2]) <= SMALL.cameras
        with Image.open(path) as image:
            assert min(image.size) >= 4


# Where crowds hide each other, many are seen once in a camera: the last crop must not become a query.
CROWDED = dataclasses.replace(SMALL, cameras=2, walk_length=2, crowd=12.0, identities=40, frame_size=96)


@pytest.mark.parametrize("config", [SMALL, CROWDED], ids=["small", "crowded"])
@pytest.mark.parametrize("seed", range(3))
def test_each_query_has_a_match_in_another_camera(config: DemoWorldConfig, seed: int, tmp_path: Path) -> None:
    world = ensure_demo_world(dataclasses.replace(config, seed=seed), tmp_path)
    gallery: dict[int, set[int]] = defaultdict(set)
    for pid, camera, _ in crops(world.reid / "bounding_box_test"):
        gallery[pid].add(camera)
    queries = crops(world.reid / "query")
    assert queries
    for pid, camera, _ in queries:
        assert gallery[pid] - {camera}, (pid, camera)
    assert max(Counter((pid, camera) for pid, camera, _ in queries).values()) == 1


def test_the_default_world_has_the_size_that_is_written_about_it(default: DemoWorld) -> None:
    assert len(list((default.detection / "images" / "train").iterdir())) > 400
    assert len(list((default.detection / "images" / "val").iterdir())) > 90
    assert len(list((default.detection / "images" / "test").iterdir())) > 150
    trained, gallery = crops(default.reid / "bounding_box_train"), crops(default.reid / "bounding_box_test")
    assert 900 < len(trained) < 1200
    assert len({pid for pid, _, _ in trained}) == 120
    assert 130 <= len(crops(default.reid / "query")) <= 160
    assert 220 < len(gallery) < 400
    # Market-1501 has both: street that was taken for somebody (0000) and people badly cut (-1).
    assert {pid for pid, _, _ in gallery} >= {-1, 0}


def test_a_cached_world_that_lost_its_files_is_drawn_again(tmp_path: Path) -> None:
    config = DemoWorldConfig(identities=4, cameras=2, frame_size=96, walk_length=2)
    root = ensure_demo_world(config, tmp_path).root
    (root / "world.json").unlink()
    (root / "reid" / "query").rename(root / "elsewhere")
    found = ensure_demo_world(config, tmp_path)
    assert found.created
    assert found.root == root
    assert list((root / "reid" / "query").iterdir())
    assert not (root / "elsewhere").exists()
