"""CrowdHuman, PASCAL VOC and Penn-Fudan -> YOLO: coordinates, regions, splits, bad records."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prepare.made import Corners, draw, labels, made, manifest, prepare, same, splits_of, state
from watchme.engines.yolo.checked_copy import prepare as engine_prepare
from watchme.engines.yolo.data_yaml import read_layout


def accepted(root: Path) -> int:
    """The boxes that the YOLO engine finds."""
    return sum(counts["boxes"] for counts in engine_prepare(read_layout(root), None)[1].splits.values())


# CrowdHuman


def person(full: Sequence[float], visible: Sequence[float], **extra: Any) -> dict[str, Any]:
    return {"tag": "person", "fbox": full, "vbox": visible, "hbox": [0, 0, 1, 1], "extra": {"occ": 0, **extra}}


MASK = {
    "tag": "mask",
    "fbox": [60, 0, 20, 20],
    "vbox": [60, 0, 20, 20],
    "hbox": [60, 0, 20, 20],
    "extra": {"ignore": 1},
}


def crowdhuman(root: Path, count: int = 30, name: str = "annotation_train.odgt", first: int = 0) -> Path:
    lines = []
    for number in range(first, first + count):
        identifier = f"{number},a{number}f"
        draw(root / "Images" / f"{identifier}.jpg", seed=number)
        boxes = [person([-10, 5, 40, 60], [0, 6, 25, 30])]
        if number == 1:
            boxes = [person([50, 5, 20, 20], [50, 5, 20, 20], ignore=1), person([1, 2, 10, 20], [2, 3, 5, 6])]
        if number == 2:
            boxes += [MASK]
        lines.append(json.dumps({"ID": identifier, "gtboxes": boxes}))
    path = root / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("box", ["full", "visible"])
def test_crowdhuman(box: str, tmp_path: Path) -> None:
    source = crowdhuman(tmp_path / "s")
    before = state(tmp_path / "s")
    out = tmp_path / "out"
    made("crowdhuman", source, "--box", box, "--out", out)
    found = labels(out)
    usual: Corners = (0, 5, 30, 60) if box == "full" else (0, 6, 25, 36)
    second: Corners = (1, 2, 11, 22) if box == "full" else (2, 3, 7, 9)
    for number in range(30):
        assert same(found[f"{number},a{number}f.jpg"], [second if number == 1 else usual]), number
    assert manifest(out)["dropped"] == {"`mask` and `ignore` regions, which are no labels": 2}
    assert accepted(out) == 30
    assert state(tmp_path / "s") == before
    # The region of 1 and 2 is painted; the others are links.
    for number, painted in ((1, True), (2, True), (3, False)):
        image = next(out.rglob(f"{number},*.jpg"))
        assert image.samefile(tmp_path / "s" / "Images" / image.name) != painted
    pixels = np.asarray(Image.open(next(out.rglob("2,*.jpg")))).astype(int)
    assert np.abs(pixels[:16, 64:] - 114).max() <= 3


def test_crowdhuman_splits_and_bad_lines(tmp_path: Path) -> None:
    train = crowdhuman(tmp_path / "s", 10)
    val = crowdhuman(tmp_path / "s", 5, "annotation_val.odgt", first=50)
    made("crowdhuman", train, "--val", val, "--ignored", "drop", "--out", tmp_path / "out")
    assert {name: counts["images"] for name, counts in manifest(tmp_path / "out")["splits"].items()} == {
        "train": 8,
        "val": 5,
    }
    lines = train.read_text().splitlines()
    spoilt = json.loads(lines[4])
    spoilt["gtboxes"][0]["fbox"] = [1, 2]
    lines[4] = json.dumps(spoilt)
    lines[6] = lines[6][:-5]
    lines[7] = '{"ID": "../../x", "gtboxes": []}'
    lines[8] = lines[0]
    train.write_text("\n".join(lines))
    ended = prepare("crowdhuman", train, "--val", val, "--out", tmp_path / "bad")
    assert ended.code == 1
    assert "the source has 4 bad records" in ended.err
    assert f"{train}:5: gtboxes[0]: a box of four numbers was expected" in ended.err
    assert f"{train}:7: not json" in ended.err
    assert f"{train}:8: the file name '../../x' leads out" in ended.err
    assert f"{train}:9: the ID 0,a0f is there twice" in ended.err
    made("crowdhuman", train, "--val", val, "--out", tmp_path / "bad", "--skip-bad")
    assert manifest(tmp_path / "bad")["bad_records"] == 4
    assert manifest(tmp_path / "bad")["splits"]["train"]["images"] == 6


# PASCAL VOC


def voc(root: Path, count: int = 12, objects: dict[int, str] | None = None, lists: bool = True) -> Path:
    corners = "<xmin>1</xmin><ymin>11</ymin><xmax>40</xmax><ymax>60</ymax>"
    usual = f"<object><name>person</name><bndbox>{corners}</bndbox></object>"
    for number in range(count):
        name = f"2007_{number:06d}"
        draw(root / "JPEGImages" / f"{name}.jpg", seed=number)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>80</width><height>60</height></size>"
            f"{(objects or {}).get(number, usual)}</annotation>"
        )
    if lists:
        folder = root / "ImageSets" / "Main"
        folder.mkdir(parents=True)
        for split, numbers in {"train": range(6), "val": range(6, 9), "test": range(100, 103)}.items():
            (folder / f"{split}.txt").write_text("".join(f"2007_{number:06d}\n" for number in numbers))
        (folder / "person_train.txt").write_text("2007_000011  1\n")
    return root


OBJECTS = {
    0: "<object><name>person</name><difficult>1</difficult><part><name>head</name><bndbox><xmin>30</xmin>"
    "<ymin>30</ymin><xmax>31</xmax><ymax>31</ymax></bndbox></part><bndbox><xmin>5.5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>90</ymax>"
    "</bndbox></object>",
    1: "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>6</ymax></bndbox></object>",
}


def test_voc_counts_from_one_and_goes_by_its_lists(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = made("voc", voc(tmp_path / "VOC2007", objects=OBJECTS), "--out", out)
    found = labels(out)
    assert len(found) == 9
    assert same(found["2007_000000.jpg"], [(4.5, 5, 20, 60)])
    assert found["2007_000001.jpg"] == []
    assert same(found["2007_000002.jpg"], [(0, 10, 40, 60)])
    assert sorted(splits_of(out).values()) == ["train"] * 6 + ["val"] * 3
    assert "the list of test is left out" in ended.out
    assert manifest(out)["dropped"] == {"boxes of other categories": 1, "images in no list of ImageSets/Main": 3}
    assert accepted(out) == 8


def test_voc_by_hash_and_difficult_people(tmp_path: Path) -> None:
    source = voc(tmp_path / "a", 40, OBJECTS, lists=False)
    made("voc", source, "--difficult", "ignored", "--out", tmp_path / "out")
    assert "2007_000000.jpg" not in labels(tmp_path / "out")  # dropped: its difficult person would be background
    assert set(splits_of(tmp_path / "out").values()) == {"train", "val", "test"}
    made("voc", source, "--difficult", "ignored", "--ignored", "keep", "--out", tmp_path / "kept")
    assert labels(tmp_path / "kept")["2007_000000.jpg"] == []
    both = prepare("voc", voc(tmp_path / "b"), "--val-share", 0.3, "--out", tmp_path / "x")
    assert "the splits are the lists" in both.err


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<object><name>person</name></object>", "object[0] (person): xmin is no number: None"),
        (OBJECTS[0].replace("5.5", "five"), "object[0] (person): xmin is no number: 'five'"),
        (OBJECTS[0].replace("5.5", "50"), "negative width"),
        ("<object>", "not xml"),
        ("<size><width>80</width><height>61</height></size>", None),  # the first size counts
    ],
)
def test_voc_bad_records(text: str, what: str | None, tmp_path: Path) -> None:
    source = voc(tmp_path / "VOC", objects={3: text})
    ended = prepare("voc", source, "--out", tmp_path / "out")
    assert ended.code == (1 if what else 0), ended.err
    if what:
        assert f"{source / 'Annotations' / '2007_000003.xml'}: " in ended.err
        assert what in ended.err
        made("voc", source, "--out", tmp_path / "out", "--skip-bad")
        assert len(labels(tmp_path / "out")) == 8


def test_voc_listed_without_annotations(tmp_path: Path) -> None:
    source = voc(tmp_path / "VOC")
    (source / "Annotations" / "2007_000007.xml").unlink()
    ended = prepare("voc", source, "--out", tmp_path / "out")
    assert f"{source / 'ImageSets' / 'Main' / 'val.txt'}: 2007_000007 has no" in ended.err
    assert "it has no folder Annotations" in prepare("voc", tmp_path, "--out", tmp_path / "out").err


# Penn-Fudan


def pennfudan(root: Path, count: int = 40) -> Path:
    root = root / "PennFudanPed"
    (root / "Annotation").mkdir(parents=True)
    for number in range(count):
        name = f"FudanPed{number:05d}"
        draw(root / "PNGImages" / f"{name}.png", seed=number)
        (root / "Annotation" / f"{name}.txt").write_text(
            "# Compatible with PASCAL Annotation Version 1.00\n"
            f'Image filename : "PennFudanPed/PNGImages/{name}.png"\n'
            "Image size (X x Y x C) : 80 x 60 x 3\n"
            'Database : "The Penn-Fudan-Pedestrian Database"\n'
            'Objects with ground truth : 2 { "PASpersonWalking" "PASpersonStanding" }\n'
            "# Top left pixel co-ordinates : (1, 1)\n"
            '# Details for pedestrian 1 ("PASpersonWalking")\n'
            'Original label for object 1 "PASpersonWalking" : "PennFudanPed"\n'
            'Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (16, 8) - (30, 43)\n'
            'Pixel mask for object 1 "PASpersonWalking" : "PennFudanPed/PedMasks/x_mask.png"\n'
            'Bounding box for object 2 "PASpersonStanding" (Xmin, Ymin) - (Xmax, Ymax) : (1, 1) - (80, 60)\n'
        )
    return root


def test_pennfudan(tmp_path: Path) -> None:
    source = pennfudan(tmp_path / "s")
    made("pennfudan", source, "--out", tmp_path / "out")
    found = labels(tmp_path / "out")
    assert len(found) == 40
    # As torchvision's tutorial has it from the masks: the annotation's 160 and 302 are the pixels 159 to 301.
    assert all(same(boxes, [(15, 7, 30, 43), (0, 0, 80, 60)]) for boxes in found.values())
    assert accepted(tmp_path / "out") == 80
    shutil.copytree(source, tmp_path / "other" / "PennFudanPed")
    made("pennfudan", tmp_path / "other", "--out", tmp_path / "again")  # the folder above will do
    assert splits_of(tmp_path / "again") == splits_of(tmp_path / "out")


def test_pennfudan_bad_records(tmp_path: Path) -> None:
    source = pennfudan(tmp_path)
    path = source / "Annotation" / "FudanPed00003.txt"
    path.write_text(path.read_text().replace("truth : 2", "truth : 3"))
    other = source / "Annotation" / "FudanPed00004.txt"
    other.write_text("hello")
    ended = prepare("pennfudan", source, "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"{path}: 3 objects are announced, 2 have a bounding box" in ended.err
    assert f"{other}: no annotation of Penn-Fudan" in ended.err
    made("pennfudan", source, "--skip-bad", "--out", tmp_path / "out")
    assert len(labels(tmp_path / "out")) == 38
