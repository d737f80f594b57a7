"""Exports of labelling tools, in the layouts that their documentation shows -> a split YOLO dataset that trains."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from prepare.made import Corners, draw, labels, made, manifest, prepare, same, splits_of
from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError, DataError
from watchme.data.prepare.splits import look_like_video
from watchme.engines.yolo.checked_copy import prepare as engine_prepare
from watchme.engines.yolo.data_yaml import read_layout

SIZE = (80, 60)
PERSON: Corners = (20.0, 12.0, 36.0, 48.0)
LINE = "0.35 0.5 0.2 0.6"  # the same, as shares of 80 x 60
CAR = "0.5 0.5 0.1 0.1"
TINY = (
    "model=yolo11n",
    "model.weights=null",
    "dataset.image_size=64",
    "train.epochs=1",
    "train.batch_size=8",
    "train.device=cpu",
    "train.workers=0",
    "evaluation.plots=false",
    "evaluation.examples=0",
)


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
    """LabelImg's PASCAL VOC: xml beside the images, edges from 0 (libs/labelFile.py), its database Unknown."""
    for number in range(count):
        draw(root / f"photo{number}x.jpg", SIZE, seed=number)
        objects = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
            f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
            for name, box in (("person", (20, 12, 36, 48)), ("car", (1, 2, 5, 6)))
        )
        (root / f"photo{number}x.xml").write_text(
            f"<annotation><filename>photo{number}x.jpg</filename><source><database>Unknown</database></source><size><width>80</width><height>60</height>"
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


def cvat_ultralytics(root: Path, count: int) -> None:
    """CVAT's Ultralytics YOLO: docs.cvat.ai, formats/format-yolo-ultralytics: a subset train, and no other."""
    (root / "labels" / "train").mkdir(parents=True)
    names = [f"door{number}x" for number in range(count)]
    for number, name in enumerate(names):
        draw(root / "images" / "train" / f"{name}.jpg", SIZE, seed=number)
        (root / "labels" / "train" / f"{name}.txt").write_text(f"1 {LINE}\n0 {CAR}\n")
    (root / "train.txt").write_text("".join(f"images/train/{name}.jpg\n" for name in names))
    (root / "data.yaml").write_text("path: ./\ntrain: train.txt\nnames:\n  0: car\n  1: person\n")


def flat(root: Path, count: int) -> None:
    """Images in one folder and labels in another, as many tools leave them."""
    label_studio(root, count)
    (root / "notes.json").unlink()
    (root / "classes.txt").rename(root / "labels" / "classes.txt")


def label_studio_voc(root: Path, count: int) -> None:
    """Label Studio's PASCAL VOC: label-studio-converter, converter.py: images/ and Annotations/, edges from 0."""
    labelimg_voc(root / "Annotations", count)
    (root / "images").mkdir()
    for path in (root / "Annotations").glob("*.jpg"):
        path.rename(root / "images" / path.name)
    for path in (root / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("Unknown", "MyDatabase"))


def supervisely(root: Path, count: int) -> None:
    """Supervisely's YOLOv5 export: data_config.yaml with paths beside the project's folder."""
    for number in range(count):
        split = "val" if number % 5 == 0 else "train"
        draw(root / "images" / split / f"photo{number}x.jpg", SIZE, seed=number)
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split / f"photo{number}x.txt").write_text(f"1 {LINE}\n0 {CAR}\n")
    (root / "data_config.yaml").write_text(
        "names: [car, person]\ncolors: [[255, 1, 1], [1, 255, 1]]\nnc: 2\n"
        "train: ../lemons/images/train\nval: ../lemons/images/val\n"
    )


EXPORTS = (
    label_studio,
    cvat_yolo,
    labelimg_yolo,
    labelimg_voc,
    roboflow,
    cvat_ultralytics,
    flat,
    label_studio_voc,
    supervisely,
)


@pytest.mark.parametrize("export", EXPORTS)
def test_from_an_export_to_a_dataset_that_trains(export: Callable[[Path, int], None], tmp_path: Path) -> None:
    source, out = tmp_path / "task yolo 1.1", tmp_path / "out"
    export(source, 60)
    command = f"python -m watchme.data.prepare yolo '{source}' --out '{source}_yolo'"
    with pytest.raises(DataError, match=re.escape(command)):
        read_layout(source)
    ended = made("yolo", source, "--out", out)
    found = labels(out)
    assert len(found) == 60
    assert all(same(boxes, [PERSON], tolerance=0.01) for boxes in found.values())
    assert manifest(out)["dropped"] == {
        "boxes of other " + ("categories" if "voc" in export.__name__ else "classes"): 60,
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


@pytest.mark.parametrize("uploaded", [False, True], ids=["plain", "label-studio"])
def test_one_video_is_divided_in_blocks_of_neighbours(uploaded: bool, tmp_path: Path) -> None:
    """Also where Label Studio puts a part of a UUID before each name."""
    for number in range(100):
        prefix = f"{number * 2654435761 % 2**32:08x}-" if uploaded else ""
        draw(tmp_path / "s" / f"{prefix}door_{number:06d}.jpg", SIZE, seed=number)
    ended = made("yolo", tmp_path / "s", "--names", "person", "--out", tmp_path / "out")
    splits = [split for name, split in sorted(splits_of(tmp_path / "out").items(), key=lambda item: item[0][-10:])]
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


def test_near_duplicates_with_the_same_people_are_in_one_split(tmp_path: Path) -> None:
    """Copies that were compressed again or made darker, under names that say nothing; others stay apart."""
    source = tmp_path / "s"
    rng = np.random.default_rng(5)
    for number in range(30):
        coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)
        source.mkdir(exist_ok=True)
        for copy, (light, quality) in enumerate(((1.0, 95), (0.95, 55))):
            path = source / f"{'xy'[copy]}{rng.integers(10**9)}n{number}q.jpg"
            ImageEnhance.Brightness(image).enhance(light).save(path, quality=quality)
            path.with_suffix(".txt").write_text("0 0.5 0.5 0.3 0.6\n")
    ended = made("yolo", source, "--names", "person", "--out", tmp_path / "out")
    places: dict[str, set[str]] = {}
    for name, split in splits_of(tmp_path / "out").items():
        places.setdefault(name[name.index("n") :], set()).add(split)
    assert len(places) == 30
    assert all(len(found) == 1 for found in places.values())
    assert set.union(*places.values()) == {"train", "val", "test"}
    assert "images look all but like another one with people there: they are in one split" in ended.out


def test_every_tenth_frame_is_a_video_too() -> None:
    names = [f"door_{number:06d}" for number in range(0, 200, 10)]
    assert look_like_video(names) == ["door...0", "door...10"]
    rng = np.random.default_rng(0)
    assert not look_like_video(f"photo_{number}" for number in rng.choice(100_000, 40, replace=False))


def test_poses_with_their_shape_become_boxes(tmp_path: Path) -> None:
    label_studio(tmp_path / "s", 30)
    for path in (tmp_path / "s" / "labels").glob("*.txt"):
        path.write_text(f"1 {LINE} 0.3 0.4 2 0.4 0.6 1\n")
    (tmp_path / "s" / "data.yaml").write_text("names: {0: car, 1: person}\nkpt_shape: [2, 3]\n")
    made("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert all(same(boxes, [PERSON], tolerance=0.01) for boxes in labels(tmp_path / "out").values())


def test_class_ids_with_a_gap_are_refused(tmp_path: Path) -> None:
    """Names from 1 were taken as from 0, so that people became cars."""
    label_studio(tmp_path / "s", 30)
    (tmp_path / "s" / "data.yaml").write_text("names: {1: car, 2: person}\n")
    (tmp_path / "s" / "classes.txt").unlink()
    ended = prepare("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert "the class ids of names must run from 0 without a gap" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("export", EXPORTS)
def test_two_commands_that_our_messages_name_lead_to_a_training(
    export: Callable[[Path, int], None],
    typed_config: Callable[..., RunConfig],
    run_engine: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = tmp_path / "export"
    export(source, 30)
    first = ("dataset=person_detection", f"dataset.root={source}")
    with pytest.raises(ConfigError) as refused:
        typed_config(*first)
    command = re.search(r"^ *python -m watchme\.data\.prepare (.*)$", str(refused.value), re.MULTILINE)
    assert command is not None, refused.value
    ended = made(*shlex.split(command[1]))
    train = re.search(r"^ *python train\.py (dataset=.*)$", ended.out, re.MULTILINE)
    assert train is not None, ended.out
    (tmp_path / "run").mkdir()
    done = run_engine(tmp_path / "run", *shlex.split(train[1]), *TINY)
    assert done.result.epochs == 1
    assert (tmp_path / "run" / "weights" / "best.pt").is_file()
    assert done.manifest["dataset"]["splits"]["train"]["boxes"] > 10


def test_labels_in_capitals_are_read(tmp_path: Path) -> None:
    labelimg_yolo(tmp_path / "s", 30)
    for path in (tmp_path / "s").glob("photo*.txt"):
        path.rename(path.with_suffix(".TXT"))
    made("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert all(same(boxes, [PERSON]) for boxes in labels(tmp_path / "out").values())


def test_umlauts_of_a_mac_find_their_labels(tmp_path: Path) -> None:
    labelimg_yolo(tmp_path / "s", 30)
    for path in (tmp_path / "s").glob("photo*"):
        umlaut = "\u00fc" if path.suffix == ".jpg" else "u\u0308"
        path.rename(path.with_name(umlaut + path.name))
    made("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert all(same(boxes, [PERSON]) for boxes in labels(tmp_path / "out").values())


def test_exports_whose_classes_have_another_order_are_not_mixed(tmp_path: Path) -> None:
    """The people of the second one would be cars, and its cars people."""
    label_studio(tmp_path / "a", 20)
    labelimg_yolo(tmp_path / "b", 20)
    (tmp_path / "b" / "classes.txt").write_text("person\ncar\n")
    ended = prepare("yolo", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    assert ended.code == 1
    assert "give one class id to different classes: car, person; person, car" in ended.err
    (tmp_path / "b" / "classes.txt").write_text("car\nperson\ndog\n")  # goes on where the first one ends
    made("yolo", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    assert len(labels(tmp_path / "out")) == 40


def test_an_empty_line_among_class_names_is_asked_about(tmp_path: Path) -> None:
    """LabelImg counts it; where others do not, the ids behind it are another class's."""
    label_studio(tmp_path / "s", 20)
    (tmp_path / "s" / "classes.txt").write_text("car\n \nperson\n\n")
    ended = prepare("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"{tmp_path / 's' / 'classes.txt'}: line 2 is empty; delete it, or say the names by --names" in ended.err
    assert not (tmp_path / "out").exists()
    made("yolo", tmp_path / "s", "--names", "car,person", "--out", tmp_path / "out")


def test_class_names_that_cannot_be_read(tmp_path: Path) -> None:
    label_studio(tmp_path / "s", 20)
    (tmp_path / "s" / "classes.txt").unlink()
    (tmp_path / "s" / "classes.txt").symlink_to("nowhere")
    ended = prepare("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert f"{tmp_path / 's' / 'classes.txt'} cannot be read: No such file or directory" in ended.err


def test_bad_labels_are_named_before_what_they_leave_too_little_of(tmp_path: Path) -> None:
    label_studio(tmp_path / "s", 20)
    for path in (tmp_path / "s" / "labels").iterdir():
        path.write_text("hello\n")
    ended = prepare("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert ended.code == 1
    assert "the source has 20 bad records" in ended.err


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "<annotations/>",
            "not the annotation of an image as VOC has it",
        ),  # CVAT's own
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "not xml: unknown encoding"),
    ],
)
def test_xml_that_is_no_vocs_is_no_negative(text: str, what: str, tmp_path: Path) -> None:
    labelimg_voc(tmp_path / "s", 20)
    (tmp_path / "s" / "photo3x.xml").write_text(text)
    ended = prepare("yolo", tmp_path / "s", "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"photo3x.xml: {what}" in ended.err


def test_a_dataset_that_lost_all_its_people_is_refused(tmp_path: Path) -> None:
    label_studio(tmp_path / "s", 20)
    (tmp_path / "s" / "classes.txt").write_text("car\npedestrian\nperson\n")
    ended = prepare("yolo", tmp_path / "s", "--category", "person", "--out", tmp_path / "out")
    assert ended.code == 1
    assert "nobody is in any of the 20 images" in ended.err
    assert "left out: 40 boxes of other classes" in ended.err
    assert not (tmp_path / "out").exists()
