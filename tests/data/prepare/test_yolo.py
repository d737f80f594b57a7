"""Exports of labelling tools, in the layouts that their documentation shows -> a split YOLO dataset that trains."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prepare.made import Corners, draw, labels, made, manifest, prepare, same, splits_of
from watchme.core.errors import DataError
from watchme.engines.yolo.checked_copy import prepare as engine_prepare
from watchme.engines.yolo.data_yaml import read_layout

SIZE = (80, 60)
PERSON: Corners = (20.0, 12.0, 36.0, 48.0)
LINE = "0.35 0.5 0.2 0.6"  # the same, as shares of 80 x 60
CAR = "0.5 0.5 0.1 0.1"


def label_studio(root: Path, count: int) -> None:
    """Label Studio's YOLO export: class ids in the order of classes.txt, names with a prefix."""
    (root / "labels").mkdir(parents=True)
    (root / "classes.txt").write_text("car\nperson\n")
    (root / "notes.json").write_text('{"categories": [{"id": 0, "name": "car"}, {"id": 1, "name": "person"}]}')
    for number in range(count):
        draw(root / "images" / f"{number:x}f3a-photo{number}x.jpg", SIZE, seed=number)
        (root / "labels" / f"{number:x}f3a-photo{number}x.txt").write_text(f"1 {LINE}\n0 {CAR}\n")


def cvat_yolo(root: Path, count: int) -> None:
    """CVAT's YOLO 1.1: docs.cvat.ai, dataset_management/formats/format-yolo."""
    draw(root / "obj_train_data" / "a.jpg", SIZE).unlink()
    (root / "obj.names").write_text("car\nperson\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    names = [f"door{number}x" for number in range(count)]
    (root / "train.txt").write_text("".join(f"data/obj_train_data/{name}.jpg\n" for name in names))
    for number, name in enumerate(names):
        draw(root / "obj_train_data" / f"{name}.jpg", SIZE, seed=number)
        (root / "obj_train_data" / f"{name}.txt").write_text(f"1 {LINE}\n0 {CAR}\n")


def labelimg_yolo(root: Path, count: int) -> None:
    """LabelImg's YOLO: labels and classes.txt beside the images."""
    for number in range(count):
        draw(root / f"photo{number}x.jpg", SIZE, seed=number)
        (root / f"photo{number}x.txt").write_text(f"1 {LINE}\n0 {CAR}\n")
    (root / "classes.txt").write_text("car\nperson\n")


def labelimg_voc(root: Path, count: int) -> None:
    """LabelImg's PASCAL VOC: xml beside the images, edges counted from 1."""
    for number in range(count):
        draw(root / f"photo{number}x.jpg", SIZE, seed=number)
        objects = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
            f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
            for name, box in (("person", (21, 13, 36, 48)), ("car", (1, 2, 5, 6)))
        )
        (root / f"photo{number}x.xml").write_text(
            f"<annotation><filename>photo{number}x.jpg</filename><size><width>80</width><height>60</height>"
            f"<depth>3</depth></size>{objects}</annotation>"
        )


def roboflow(root: Path, count: int) -> None:
    """Roboflow's YOLOv8 export: splits in folders, paths of its own in data.yaml."""
    for number in range(count):
        split = ("train", "valid", "test")[min(number % 5, 2)] if number % 5 < 3 else "train"
        name = f"photo{number}_jpg.rf.0123456789abcdef{number:016x}"
        draw(root / split / "images" / f"{name}.jpg", SIZE, seed=number)
        (root / split / "labels").mkdir(exist_ok=True)
        (root / split / "labels" / f"{name}.txt").write_text(f"1 {LINE}\n0 {CAR}\n")
    (root / "data.yaml").write_text(
        "train: ..\\train\\images\nval: C:\\exports\\valid\\images\nnc: 2\nnames: ['car', 'person']\n"
    )
    (root / "README.roboflow.txt").write_text("photos - v1\n")


EXPORTS = (label_studio, cvat_yolo, labelimg_yolo, labelimg_voc, roboflow)


@pytest.mark.parametrize("export", EXPORTS)
def test_from_an_export_to_a_dataset_that_trains(export: Callable[[Path, int], None], tmp_path: Path) -> None:
    source, out = tmp_path / "export", tmp_path / "out"
    export(source, 60)
    with pytest.raises(DataError, match=rf"python -m watchme\.data\.prepare yolo {source} --out {source}_yolo"):
        read_layout(source)
    ended = made("yolo", source, "--out", out)
    found = labels(out)
    assert len(found) == 60
    assert all(same(boxes, [PERSON], tolerance=0.01) for boxes in found.values())
    assert manifest(out)["dropped"] == {
        "boxes of other " + ("categories" if export is labelimg_voc else "classes"): 60,
    }
    _, scan = engine_prepare(read_layout(out), None)
    assert sum(counts["boxes"] for counts in scan.splits.values()) == 60
    assert min(counts["images"] for counts in scan.splits.values()) > 0
    assert f"python train.py dataset=person_detection dataset.root={out}\n" in ended.out
    if export is roboflow:
        assert {name: split for name, split in splits_of(out).items() if split != "train"} == {
            path.name: split
            for folder, split in (("valid", "val"), ("test", "test"))
            for path in (source / folder / "images").iterdir()
        }


def test_frames_of_videos_and_copies_of_an_image_stay_together(tmp_path: Path) -> None:
    source = tmp_path / "s"
    (source / "labels").mkdir(parents=True)
    for video in ("door", "hall", "yard", "shop"):
        for number in range(10):
            draw(source / "images" / f"{video}_{number:06d}.jpg", SIZE, seed=hash_of(video, number))
    out = tmp_path / "out"
    ended = made("yolo", source, "--names", "person", "--out", out)
    places: dict[str, set[str]] = {}
    for name, split in splits_of(out).items():
        places.setdefault(name.split("_")[0], set()).add(split)
    assert all(len(found) == 1 for found in places.values())
    assert set.union(*places.values()) == {"train", "val", "test"}
    assert "names look like frames of 4 videos: each is in one split" in ended.out
    assert "40 of 40 images have no label file" in ended.out


def hash_of(text: str, number: int) -> int:
    return sum(map(ord, text)) * 100 + number


def test_one_video_is_divided_in_blocks_of_neighbours(tmp_path: Path) -> None:
    for number in range(100):
        draw(tmp_path / "s" / f"door_{number:06d}.jpg", SIZE, seed=number)
    ended = made("yolo", tmp_path / "s", "--names", "person", "--out", tmp_path / "out")
    splits = [split for _, split in sorted(splits_of(tmp_path / "out").items())]
    assert set(splits) == {"train", "val", "test"}
    assert all(len(set(splits[start : start + 5])) == 1 for start in range(0, 100, 5))
    assert "divided in blocks of neighbouring frames" in ended.out


def test_augmented_and_equal_copies_are_in_one_split(tmp_path: Path) -> None:
    source = tmp_path / "s"
    for number in range(20):
        for copy in range(3):
            draw(source / f"p{number}x_jpg.rf.{copy:032x}.jpg", SIZE, seed=100 * number + copy)
        shutil.copy(source / f"p{number}x_jpg.rf.{0:032x}.jpg", source / f"equal{(7 * number) % 20}y.jpg")
    made("yolo", source, "--names", "person", "--out", tmp_path / "out")
    places = splits_of(tmp_path / "out")
    for number in range(20):
        own = {
            split for name, split in places.items() if name.startswith((f"p{number}x_", f"equal{(7 * number) % 20}y"))
        }
        assert len(own) == 1


def test_what_cannot_be_known_is_asked_for(tmp_path: Path) -> None:
    labelimg_yolo(tmp_path / "s", 60)
    (tmp_path / "s" / "classes.txt").unlink()
    assert "say --names" in prepare("yolo", tmp_path / "s", "--out", tmp_path / "out").err
    assert "no class is a person: cat, dog" in prepare(
        "yolo", tmp_path / "s", "--names", "cat,dog", "--out", tmp_path / "out"
    ).err  # fmt: skip
    (tmp_path / "s" / "photo3x.txt").write_text("0 0.5 0.5 0.2\n")
    ended = prepare("yolo", tmp_path / "s", "--names", "car,person", "--out", tmp_path / "out")
    assert f"{tmp_path / 's' / 'photo3x.txt'}:1: expected `class cx cy w h`" in ended.err
    assert not (tmp_path / "out").exists()
    made("yolo", tmp_path / "s", "--names", "car,person", "--out", tmp_path / "out", "--skip-bad")
    assert len(labels(tmp_path / "out")) == 59
