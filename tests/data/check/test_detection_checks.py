"""A clean detection dataset is clean, and each kind of fault is found in one that was spoilt by hand."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from check.conftest import Check
from watchme.config.demo_world import DemoWorldConfig
from watchme.core.interfaces import Picture, Table
from yolo.world import draw_dataset

Spoil = Callable[[Path], object]


def add_lines(*lines: str) -> Spoil:
    def spoil(root: Path) -> None:
        with (root / "labels" / "train" / "001.txt").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    return spoil


def cut(root: Path) -> None:
    path = root / "images" / "train" / "002.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def copy_to(split: str, name: str = "copy") -> Spoil:
    def spoil(root: Path) -> None:
        shutil.copy(root / "images" / "train" / "003.jpg", root / "images" / split / f"{name}.jpg")
        shutil.copy(root / "labels" / "train" / "003.txt", root / "labels" / split / f"{name}.txt")

    return spoil


def change_and_copy(change: Callable[[Image.Image], Image.Image]) -> Spoil:
    def spoil(root: Path) -> None:
        copy_to("val")(root)
        path = root / "images" / "val" / "copy.jpg"
        with Image.open(path) as image:
            changed = change(image.convert("RGB"))
        changed.save(path, quality=70)

    return spoil


def empty_labels(split: str) -> Spoil:
    def spoil(root: Path) -> None:
        for path in (root / "labels" / split).iterdir():
            path.write_text("")

    return spoil


def without_val(root: Path) -> None:
    shutil.rmtree(root / "images" / "val")
    (root / "data.yaml").write_text("train: images/train\n")


def sixteen_bit(pixels: int) -> Spoil:
    """A float TIFF, or one of 16 bits, in place of an image."""

    def spoil(root: Path) -> None:
        array = np.linspace(0, pixels, 64 * 64).reshape(64, 64)
        (root / "images/train/000.jpg").unlink()
        image = Image.fromarray(array.astype(np.uint16) if pixels > 1 else array.astype(np.float32))
        image.save(root / "images/train/000.tif")

    return spoil


SPOILT: dict[str, tuple[Spoil, dict[str, int]]] = {
    "float pixels": (sixteen_bit(1), {"unreadable image": 1}),
    "16 bits": (sixteen_bit(65535), {}),
    "a gif by another name": (
        lambda root: Image.new("RGB", (64, 64), "red").save(root / "images/train/000.jpg", "GIF"),
        {"unreadable image": 1},
    ),
    "heic": (lambda root: (root / "images/train/x.heic").write_bytes(b"x"), {"image not read": 1}),
    "box with confidence and track": (
        lambda root: (root / "labels/train/001.txt").write_text("0 0.5 0.5 0.2 0.4 0.9 7\n"),
        {"malformed label": 1},
    ),
    "truncated": (cut, {"unreadable image": 1}),
    "empty file": (lambda root: (root / "images/train/002.jpg").write_bytes(b""), {"unreadable image": 1}),
    "no image": (lambda root: (root / "images/train/002.jpg").write_text("text"), {"unreadable image": 1}),
    "too small": (lambda root: Image.new("RGB", (5, 5)).save(root / "images/val/002.jpg"), {"unreadable image": 1}),
    "same content in val": (copy_to("val"), {"image in two splits": 1}),
    "same content in test": (copy_to("test"), {"image in two splits": 1}),
    "same content in train": (copy_to("train"), {"duplicate image": 1}),
    "compressed anew": (change_and_copy(lambda image: image), {"near-duplicate in two splits": 1}),
    "scaled": (change_and_copy(lambda image: image.resize((160, 160))), {"near-duplicate in two splits": 1}),
    "brighter": (
        change_and_copy(lambda image: ImageEnhance.Brightness(image).enhance(1.1)),
        {"near-duplicate in two splits": 1},
    ),
    "too few numbers": (add_lines("0 0.5 0.5 0.1"), {"malformed label": 1}),
    "words": (add_lines("person 0.5 0.5 0.1 0.1", "0 x y 0.1 0.1"), {"malformed label": 2}),
    "unknown class": (add_lines("1 0.5 0.5 0.1 0.1"), {"malformed label": 1}),
    "pixels": (add_lines("0 320 240 50 80"), {"malformed label": 1}),
    "one fault, one finding": (add_lines("0 0.5 0.5", "7 0.9 0.9 0.1 0.1"), {"malformed label": 2}),
    "outside the frame": (add_lines("0 0.95 0.5 0.3 0.2"), {"box outside the frame": 1}),
    "no area": (add_lines("0 0.1 0.1 0 0.1"), {"box of no area": 1}),
    "half a pixel": (add_lines("0 0.1 0.1 0.007 0.1"), {"box of no area": 1}),
    "same box": (add_lines("0 0.1 0.1 0.2 0.2", "0 0.1 0.1 0.2 0.2"), {"duplicate box": 1}),
    "nearly the same box": (add_lines("0 0.1 0.1 0.2 0.2", "0 0.1 0.1 0.2 0.201"), {"duplicate box": 1}),
    "label without image": (
        lambda root: (root / "labels/val/lost.txt").write_text("0 0.5 0.5 0.1 0.1\n"),
        {"label without image": 1},
    ),
    "val without boxes": (empty_labels("val"), {"split without boxes": 1}),
    "train without labels": (
        lambda root: shutil.rmtree(root / "labels" / "train"),
        {"split without boxes": 1},
    ),
    "test without boxes": (empty_labels("test"), {"test split without boxes": 1}),
    "no val": (
        without_val,
        {"missing split": 1},
    ),
}


def test_clean_dataset(check: Check, detection: Path) -> None:
    found = check("detection", detection, plots=True)
    assert found.bad == {}
    assert found.result.refused == ""
    # 000 and 004 of each split, by the drawing.
    assert [issue["problem"] for issue in found.issues] == ["no label file"] * 4
    assert found.result.metrics == {"check/errors": 0, "check/warnings": 0, "check/notes": 4}
    plots = {"box_sizes", "box_centres", "boxes_per_image"}
    assert found.pictures == {f"check/{name}" for name in plots}
    captions = [item.caption for item in found.shown if isinstance(item, Picture)]
    assert any("boxes are of one class, person" in caption for caption in captions)
    (splits,) = (item for item in found.shown if isinstance(item, Table) and item.name == "check/splits")
    assert splits.rows[0][:5] == ("train", 8, 0, 6, 2)


@pytest.mark.parametrize("case", SPOILT)
def test_each_fault_is_found_and_nothing_else(case: str, check: Check, detection: Path) -> None:
    spoil, expected = SPOILT[case]
    spoil(detection)
    found = check("detection", detection)
    assert found.bad == expected
    severities = {issue["problem"]: issue["severity"] for issue in found.issues}
    assert bool(found.result.refused) == any(severities[kind] == "error" for kind in expected)
    for kind in expected:
        assert kind in found.result.refused or severities[kind] == "warning"
        shown = {name.removeprefix("offenders/") for name in found.pictures}
        has_picture = kind not in ("label without image", "missing split", "test split without boxes")
        assert (kind.replace(" ", "_").replace("-", "_") in shown) == (has_picture and kind != "split without boxes")
    assert all(item.path.is_file() for item in found.shown if isinstance(item, Picture))


def test_a_finding_names_file_and_line(check: Check, detection: Path) -> None:
    add_lines("0 0.95 0.5 0.3 0.2")(detection)
    (found,) = check("detection", detection).of("box outside the frame")
    assert found["file"] == str(detection / "labels" / "train" / "001.txt")
    assert (found["split"], found["line"]) == ("train", "2")
    assert "10.0 %" in found["detail"]


def test_a_pair_names_both_files(check: Check, detection: Path) -> None:
    copy_to("val")(detection)
    (found,) = check("detection", detection).of("image in two splits")
    assert found["file"] == str(detection / "images" / "val" / "copy.jpg")
    assert found["other"] == str(detection / "images" / "train" / "003.jpg")


def test_frames_of_a_fixed_camera_without_anyone_are_no_leak(check: Check, detection: Path) -> None:
    """They look alike, as they should; without their labels the copies below are such frames."""
    change_and_copy(lambda image: image)(detection)
    (detection / "labels" / "val" / "copy.txt").unlink()
    assert check("detection", detection).bad == {}


def test_same_place_with_people_elsewhere_is_no_leak(check: Check, detection: Path) -> None:
    change_and_copy(lambda image: image)(detection)
    (detection / "labels" / "val" / "copy.txt").write_text("0 0.05 0.05 0.05 0.05\n")
    assert check("detection", detection).bad == {}


def test_classes(check: Check, tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 4, "val": 4}, ("car", "person"))
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, person, dog]\n")
    with (root / "labels" / "train" / "001.txt").open("a") as file:
        file.writelines(f"1 {x / 400 + 0.1:.4f} 0.5 0.002 0.9\n" for x in range(300))
    # Less than a pixel wide, so that they count as boxes of the class, and as nothing else that is asked here.
    found = check("detection", root)
    assert [issue["detail"] for issue in found.of("class without boxes")] == ["2: dog"]
    assert [issue["detail"] for issue in found.of("rare class")] == ["0: car has 3 boxes"]
    assert found.bad["box of no area"] == 300


def test_only_the_classes_that_are_kept_count(check: Check, tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 4, "val": 4}, ("car", "person"))
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, person, dog]\n")
    found = check("detection", root, classes=["person"])
    assert found.bad == {}
    (splits,) = (item for item in found.shown if isinstance(item, Table) and item.name == "check/splits")
    assert splits.rows[0][3] == 3


def test_photographs_of_coco_are_clean(check: Check, real_data: Path) -> None:
    found = check("detection", real_data / "coco128_person")
    assert found.bad == {}
    assert found.result.refused == ""
    (splits,) = (item for item in found.shown if isinstance(item, Table) and item.name == "check/splits")
    assert [row[:4] for row in splits.rows] == [("train", 78, 0, 169), ("val", 25, 0, 65), ("test", 25, 0, 20)]


def test_demo_world_is_clean(check: Check) -> None:
    """Its cameras do not move, so that all frames of one look alike."""
    world = DemoWorldConfig(identities=40, cameras=3, frame_size=160)
    assert check("detection", None, demo=dataclasses.replace(world)).bad == {}
