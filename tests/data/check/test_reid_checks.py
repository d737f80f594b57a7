"""A clean re-ID dataset is clean, and each kind of fault is found in one that was spoilt by hand."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from check.conftest import Check
from watchme.core.interfaces import Table
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import parse

Spoil = Callable[[Path], object]
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


def files(root: Path, folder: str) -> list[Path]:
    """Images of people, the distractors and junk left out."""
    return [path for path in sorted((root / folder).iterdir()) if (crop := parse(path)) is not None and crop.pid > 0]


def pid_of(path: Path) -> int:
    crop = parse(path)
    assert crop is not None
    return crop.pid


def remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink()


def name(person: int, camera: int, frame: int = 900) -> str:
    return f"{person:04d}_c{camera}s1_{frame:06d}_00.jpg"


def new_picture(root: Path, folder: str, person: int, camera: int, frame: int = 900) -> Path:
    """A crop that looks like no other: one of train upside down, in other colours."""
    source = files(root, TRAIN)[frame % 7 + 7 * camera]
    target = root / folder / name(person, camera, frame)
    with Image.open(source) as image:
        red, green, blue = image.convert("RGB").transpose(Image.Transpose.ROTATE_180).split()
        Image.merge("RGB", (blue, red, green)).save(target, quality=95)
    return target


def cut(root: Path) -> None:
    path = files(root, GALLERY)[0]
    path.write_bytes(path.read_bytes()[:300])


def near(root: Path) -> None:
    with Image.open(files(root, TRAIN)[4]) as image:
        image.resize((80, 160)).save(root / GALLERY / name(901, 1), quality=80)


def odd(size: tuple[int, int]) -> Spoil:
    def spoil(root: Path) -> None:
        path = files(root, TRAIN)[2]
        with Image.open(path) as image:
            image.resize(size).save(path)

    return spoil


def query_by_another_camera(root: Path) -> None:
    path = files(root, QUERY)[0]
    crop = parse(path)
    assert crop is not None
    shutil.copy(path, root / GALLERY / name(crop.pid, crop.cam % 3 + 2))


def lonely_queries(root: Path) -> None:
    remove(files(root, GALLERY))


SPOILT: dict[str, tuple[Spoil, dict[str, int]]] = {
    "name": (
        lambda root: shutil.copy(files(root, TRAIN)[0], root / TRAIN / "person.jpg"),
        {"name breaks the convention": 1},
    ),
    "truncated": (cut, {"unreadable image": 1}),
    "empty file": (lambda root: files(root, TRAIN)[1].write_bytes(b""), {"unreadable image": 1}),
    "person in both": (
        lambda root: new_picture(root, GALLERY, pid_of(files(root, TRAIN)[0]), 1),
        {"identity in train and test": 1},
    ),
    "same content in both": (
        lambda root: shutil.copy(files(root, TRAIN)[3], root / GALLERY / name(901, 1)),
        {"image in two splits": 1},
    ),
    "scaled copy in both": (near, {"near-duplicate in two splits": 1}),
    "same content in train": (
        lambda root: shutil.copy(files(root, TRAIN)[3], root / TRAIN / name(pid_of(files(root, TRAIN)[3]), 2)),
        {"duplicate image": 1},
    ),
    "two identities": (
        lambda root: [
            shutil.copy(files(root, TRAIN)[3], root / TRAIN / name(901, 1)),
            new_picture(root, TRAIN, 901, 2),
        ],
        {"one picture, two identities": 1},
    ),
    "query is a distractor": (
        lambda root: shutil.copy(files(root, QUERY)[0], root / GALLERY / name(0, 1)),
        {"one picture, two identities": 1},
    ),
    "query by another camera": (query_by_another_camera, {"query in gallery by another camera": 1}),
    "query in gallery by its camera": (
        lambda root: shutil.copy(files(root, QUERY)[0], root / GALLERY / files(root, QUERY)[0].name),
        {},
    ),
    "one image": (lambda root: new_picture(root, TRAIN, 901, 1), {"identity with one image": 1}),
    "one query alone": (lambda root: new_picture(root, QUERY, 901, 1), {"query without a match": 1}),
    "gallery by its own camera alone": (
        lambda root: [new_picture(root, QUERY, 901, 1, 900), new_picture(root, GALLERY, 901, 1, 901)],
        {"query without a match": 1},
    ),
    "no match at all": (lonely_queries, {"no query has a match": 1, "missing split": 1}),
    "wide": (odd((120, 40)), {"odd size": 1}),
    "tiny": (odd((6, 12)), {"odd size": 1}),
    "narrow": (odd((20, 200)), {"odd size": 1}),
    "one person": (
        lambda root: remove(path for path in files(root, TRAIN)[1:] if pid_of(path) != pid_of(files(root, TRAIN)[0])),
        {"too few identities": 1},
    ),
    "empty train": (lambda root: remove(files(root, TRAIN)), {"missing split": 1}),
}


def test_clean_dataset(check: Check, small_world: DemoWorld) -> None:
    found = check("reid", small_world.reid, plots=True)
    assert found.bad == {}
    assert found.result.refused == ""
    plots = {
        "images_per_identity",
        "images_per_identity_and_camera",
        "cameras_per_identity",
        "image_sizes",
    }
    assert found.pictures == {f"check/{plot}" for plot in plots}


@pytest.mark.parametrize("case", SPOILT)
def test_each_fault_is_found_and_nothing_else(case: str, check: Check, reid: Path) -> None:
    spoil, expected = SPOILT[case]
    spoil(reid)
    found = check("reid", reid)
    assert found.bad == expected
    severities = {issue["problem"]: issue["severity"] for issue in found.issues}
    assert bool(found.result.refused) == any(severities[kind] == "error" for kind in expected)


def test_notes(check: Check, reid: Path) -> None:
    (reid / QUERY / "Thumbs.db").write_text("x")
    new_picture(reid, TRAIN, 901, 1, 900)
    new_picture(reid, TRAIN, 901, 1, 901)
    shutil.copy(files(reid, GALLERY)[0], reid / GALLERY / "-1_c1s1_000900_00.jpg")
    found = check("reid", reid)
    assert found.bad == {}
    assert [issue["file"] for issue in found.of("other file")] == [str(reid / QUERY / "Thumbs.db")]
    assert [issue["detail"] for issue in found.of("identity with one camera")] == ["identity 901: 2 images, camera 1"]
    assert str(reid / GALLERY / "-1_c1s1_000900_00.jpg") in {issue["file"] for issue in found.of("image left out")}


def test_people_numbered_from_0_and_images_that_are_not_read_are_warnings(check: Check, reid: Path) -> None:
    new_picture(reid, TRAIN, 0, 1, 900)
    new_picture(reid, QUERY, 0, 1, 901)
    (reid / TRAIN / "0001_c1s1_000999_00.heic").write_bytes(b"x")
    found = check("reid", reid)
    assert found.bad == {"identity left out": 2, "image not read": 1}
    assert {issue["detail"] for issue in found.of("identity left out")} == {"identity 0"}


def test_people_numbered_from_0_are_read_on_demand(check: Check, reid: Path) -> None:
    new_picture(reid, TRAIN, 0, 1, 900)
    new_picture(reid, TRAIN, 0, 2, 901)
    found = check("reid", reid, first_id=0)
    assert found.of("identity left out") == []


def test_crops_of_market1501_are_clean(check: Check, real_data: Path) -> None:
    found = check("reid", real_data / "market1501_mini")
    assert found.issues == []
    (splits,) = (item for item in found.shown if isinstance(item, Table) and item.name == "check/splits")
    assert [row[:5] for row in splits.rows] == [
        ("train", 465, 0, 40, 6),
        ("query", 104, 0, 24, 6),
        ("gallery", 174, 0, 24, 6),
    ]


def test_several_sources_and_targets(check: Check, reid: Path, small_world: DemoWorld) -> None:
    """Each is checked for what it is used for: a leak from the training set of one into the test set of another."""
    roots = {"here": str(small_world.reid), "there": str(reid)}
    cut(reid)
    first = files(reid, TRAIN)[0]
    first.rename(first.with_name("person.jpg"))  # not looked at: `there` is tested on alone
    shutil.copy(files(small_world.reid, TRAIN)[0], reid / QUERY / name(901, 1))
    found = check("reid", reid.parent, sources=["here"], targets=["there"], roots=roots)
    assert found.bad == {"unreadable image": 1, "image in two splits": 1, "query without a match": 1}
    assert {issue["split"] for issue in found.of("image in two splits")} == {"there/query"}
    (splits,) = (item for item in found.shown if isinstance(item, Table) and item.name == "check/splits")
    assert [row[0] for row in splits.rows] == ["here/train", "there/query", "there/gallery"]


def test_a_dataset_that_cannot_be_listed_does_not_hide_the_others(check: Check, reid: Path, tmp_path: Path) -> None:
    roots = {"here": str(reid), "gone": str(tmp_path / "gone")}
    cut(reid)
    found = check("reid", reid.parent, sources=["here", "gone"], targets=["here"], roots=roots)
    assert found.bad == {"unreadable dataset": 1, "unreadable image": 1}


def test_a_dataset_that_torchreid_reads(check: Check, tmp_path: Path) -> None:
    """PRID: 200 people by two cameras, and distractors; its splits of identities are torchreid's."""
    folder = tmp_path / "prid2011" / "prid_2011" / "single_shot"
    for camera, (name, count) in enumerate((("cam_a", 385), ("cam_b", 749))):
        (folder / name).mkdir(parents=True)
        for person in range(1, count + 1):
            colour = (100 * camera, person // 256, person % 256)
            Image.new("RGB", (20, 50), colour).save(folder / name / f"person_{person:04d}.png")
    (folder / "cam_a" / "person_0003.png").write_bytes(b"")
    found = check("reid", tmp_path, name="prid", format="prid")
    assert found.bad == {"unreadable image": 1}
    (splits,) = (item for item in found.shown if isinstance(item, Table) and item.name == "check/splits")
    assert [row[0] for row in splits.rows] == ["train", "query", "gallery"]
    assert [row[1] for row in splits.rows] == [200, 100, 649]
