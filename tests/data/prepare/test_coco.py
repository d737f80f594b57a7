"""COCO json -> YOLO: coordinates, crowds, splits, bad records; the project reads what comes out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from prepare.made import Corners, coco, content, draw, labels, made, manifest, prepare, same, splits_of
from watchme.engines.yolo.checked_copy import prepare as engine_prepare
from watchme.engines.yolo.data_yaml import read_layout

CROWD = {"bbox": [40, 0, 40, 60], "iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [60, 80]}}
PERSON = {"bbox": [5, 5, 20, 50]}


def test_boxes_are_those_of_the_json(tmp_path: Path) -> None:
    boxes: dict[int, list[dict[str, Any]]] = {
        0: [{"bbox": [3.25, 4.5, 30.75, 41.0]}, {"bbox": [50, 10, 20, 20], "category_id": 3}],
        1: [],  # a negative
        2: [{"bbox": [-5, -6, 30, 40]}, {"bbox": [60, 50, 70, 80]}],  # reach out of the frame
        3: [{"bbox": [90, 5, 10, 10]}, {"bbox": [5, 5, 0, 10]}, {"bbox": [1, 2, 3, 4]}],  # outside; no area
        4: [PERSON, PERSON],
    }
    source = coco(tmp_path / "source", 30, boxes)
    out = tmp_path / "out"
    ended = made("coco", source, "--out", out)
    found = labels(out)
    expected: dict[str, list[Corners]] = {
        "photo_0a.jpg": [(3.25, 4.5, 34.0, 45.5)],
        "photo_1a.jpg": [],
        "photo_2a.jpg": [(0, 0, 25, 34), (60, 50, 80, 60)],
        "photo_3a.jpg": [(1, 2, 4, 6)],
        "photo_4a.jpg": [(5, 5, 25, 55)],
    }
    for number in range(5, 30):
        left = 10 + number % 20
        expected[f"photo_{number}a.jpg"] = [(left, 5, left + 20.5, 45.25)]
    assert found.keys() == expected.keys()
    for name, boxes_of in expected.items():
        assert same(found[name], boxes_of), name
    assert not list((out / "labels").rglob("photo_1a.txt"))
    told = manifest(out)
    assert told["dropped"] == {
        "boxes of other categories": 1,
        "boxes that stand there twice": 1,
        "boxes without area in the image": 2,
    }
    assert sum(split["people"] for split in told["splits"].values()) == 30
    assert sum(split["negatives"] for split in told["splits"].values()) == 1
    assert f"python train.py mode=check dataset=person_detection dataset.root={out}\n" in ended.out
    assert f"python train.py dataset=person_detection dataset.root={out}\n" in ended.out


def test_the_yolo_engine_takes_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made("coco", coco(tmp_path / "source", 30, {1: []}), "--out", out)
    layout = read_layout(out)
    assert layout.names == ("person",)
    assert layout.source == out / "data.yaml"
    _, scan = engine_prepare(layout, None)
    told = manifest(out)["splits"]
    assert {
        split: (counts["images"], counts["boxes"], counts["negatives"]) for split, counts in scan.splits.items()
    } == {split: (counts["images"], counts["people"], counts["negatives"]) for split, counts in told.items()}


@pytest.mark.real
def test_coco128_there_and_back(real_data: Path, tmp_path: Path) -> None:
    """The real photographs' labels as COCO json, converted, are the labels again."""
    root = real_data / "coco128_person"
    jsons = {}
    for split in ("train", "val", "test"):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for path in sorted((root / "images" / split).iterdir()):
            with Image.open(path) as image:
                width, height = image.size
            images.append({"id": len(images), "file_name": path.name, "width": width, "height": height})
            label = root / "labels" / split / f"{path.stem}.txt"
            for line in label.read_text().splitlines() if label.exists() else ():
                x, y, w, h = (float(text) for text in line.split()[1:])
                box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
                annotations.append({"image_id": len(images) - 1, "category_id": 1, "bbox": box})
        jsons[split] = tmp_path / f"{split}.json"
        whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        jsons[split].write_text(json.dumps(whole))
    out = tmp_path / "out"
    given = [argument for split in ("val", "test") for argument in (f"--{split}", jsons[split])]
    folders = [argument for split in ("val", "test") for argument in (f"--{split}-images", root / "images" / split)]
    made("coco", jsons["train"], "--images", root / "images" / "train", *given, *folders, "--out", out)
    for split, (images_there, boxes_there) in {"train": (78, 169), "val": (25, 65), "test": (25, 20)}.items():
        assert manifest(out)["splits"][split]["images"] == images_there
        assert manifest(out)["splits"][split]["people"] == boxes_there
        there = {path.name for path in (out / "labels" / split).iterdir()}
        assert there == {path.name for path in (root / "labels" / split).iterdir()}
        for name in there:
            own, original = (np.loadtxt(base / "labels" / split / name, ndmin=2) for base in (out, root))
            # Edges beyond the frame by rounding are clipped.
            assert np.abs(own - original).max() < 3e-6, name
    assert yaml.safe_load((out / "data.yaml").read_text()) == yaml.safe_load((root / "data.yaml").read_text())


@pytest.mark.parametrize("rule", ["drop", "keep", "paint", None])
def test_crowds_are_no_labels(rule: str | None, tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 30, {2: [CROWD, PERSON, {"bbox": [50, 20, 10, 20]}], 3: [CROWD]})
    out = tmp_path / "out"
    made("coco", source, "--out", out, *(["--ignored", rule] if rule else []))
    found = labels(out)
    if rule in ("drop", None):
        assert "photo_2a.jpg" not in found
        assert "photo_3a.jpg" not in found
        assert manifest(out)["dropped"]["images with ignored regions (--ignored drop)"] == 2
        return
    assert same(found["photo_2a.jpg"], [(5, 5, 25, 55), (50, 20, 60, 40)])
    assert found["photo_3a.jpg"] == []
    assert manifest(out)["dropped"]["crowd regions, which are no labels"] == 2
    before = np.asarray(Image.open(tmp_path / "source/images/photo_2a.jpg")).astype(int)
    after = np.asarray(Image.open(next(out.rglob("photo_2a.jpg")))).astype(int)
    if rule == "keep":
        assert (before == after).all()
        return
    grey = np.zeros((60, 80), bool)
    grey[:, 40:] = True
    grey[20:40, 50:60] = False  # a labelled person within the crowd stays
    inner = np.zeros_like(grey)  # JPEG's 8 x 8 blocks blur edges
    inner[48:, 48:] = True
    assert np.abs(after[inner] - 114).max() <= 3
    assert np.abs(after - before)[~grey].mean() < 6
    assert np.abs(after - before)[22:38, 52:58].mean() < 12
    assert np.abs(after - before)[grey].mean() > 40


def test_a_photo_keeps_its_split_when_others_come(tmp_path: Path) -> None:
    made("coco", coco(tmp_path / "a", 60), "--out", tmp_path / "few", "--val-share", 0.3, "--test-share", 0.2)
    made("coco", coco(tmp_path / "b", 160), "--out", tmp_path / "many", "--val-share", 0.3, "--test-share", 0.2)
    few, many = splits_of(tmp_path / "few"), splits_of(tmp_path / "many")
    assert all(many[name] == split for name, split in few.items())
    counts = {split: list(many.values()).count(split) for split in ("train", "val", "test")}
    assert 60 <= counts["train"] <= 100
    assert 30 <= counts["val"] <= 66
    assert 18 <= counts["test"] <= 46


def test_jsons_as_splits(tmp_path: Path) -> None:
    train = coco(tmp_path / "s", 12, json_name="train.json")
    val = coco(tmp_path / "s", 5, json_name="val.json", first=50)
    out = tmp_path / "out"
    made("coco", train, "--val", val, "--out", out)
    assert {split: counts["images"] for split, counts in manifest(out)["splits"].items()} == {"train": 12, "val": 5}
    assert set(splits_of(out).values()) == {"train", "val"}
    both = prepare("coco", train, "--val", val, "--val-share", 0.2, "--out", tmp_path / "other")
    assert both.code == 1
    assert "--val and --val-share both" in both.err
    twice = prepare("coco", train, "--val", train, "--out", tmp_path / "other")
    assert twice.code == 1
    assert "is in val and in train" in twice.err
    made("coco", train, "--test", val, "--val-share", 0.3, "--out", tmp_path / "third")
    assert set(splits_of(tmp_path / "third").values()) == {"train", "val", "test"}


def test_frames_of_a_video(tmp_path: Path) -> None:
    """They are warned of, and stay together by --group-by."""
    source = tmp_path / "s"
    path = coco(source, 40, name="cam1_frame_{:04d}.jpg")
    for number in range(2, 9):
        other = coco(source, 40, name=f"cam{number}_frame_{{:04d}}.jpg", json_name="other.json")
        whole, added = json.loads(path.read_text()), json.loads(other.read_text())
        for entry in added["images"]:
            entry["id"] += 1000 * number
        whole["images"] += added["images"]
        path.write_text(json.dumps(whole))
    other.unlink()
    ended = made("coco", path, "--out", tmp_path / "torn")
    assert "look like frames of a video" in ended.out
    ended = made(
        "coco", path, "--group-by", r"^cam\d+", "--val-share", 0.3, "--test-share", 0.2, "--out", tmp_path / "whole"
    )
    assert "look like frames" not in ended.out
    cameras: dict[str, set[str]] = {}
    for name, split in splits_of(tmp_path / "whole").items():
        cameras.setdefault(name.split("_")[0], set()).add(split)
    assert all(len(splits) == 1 for splits in cameras.values())
    assert len(set.union(*cameras.values())) == 3
    wrong = prepare("coco", path, "--group-by", "(", "--out", tmp_path / "wrong")
    assert wrong.code == 1
    assert "is not a regular expression" in wrong.err


def test_names_in_folders_become_flat(tmp_path: Path) -> None:
    """A folder called images would send readers to the wrong labels."""
    source = coco(tmp_path / "s", 30, name="images/a/{}.jpg")
    made("coco", source, "--images", tmp_path / "s" / "images", "--val-share", 0.3, "--out", tmp_path / "out")
    assert "images__a__3.jpg" in splits_of(tmp_path / "out")
    _, scan = engine_prepare(read_layout(tmp_path / "out"), None)
    assert sum(counts["boxes"] for counts in scan.splits.values()) == 30


def test_some_negatives(tmp_path: Path) -> None:
    source = coco(tmp_path / "s", 60, {number: [] for number in range(40)})
    made("coco", source, "--negatives", 0.25, "--out", tmp_path / "out")
    told = manifest(tmp_path / "out")
    kept = sum(counts["negatives"] for counts in told["splits"].values())
    assert 3 <= kept <= 18
    assert told["dropped"] == {"images without people (--negatives)": 40 - kept}
    assert sum(counts["people"] for counts in told["splits"].values()) == 20


def broken(change: str, whole: dict[str, Any], root: Path) -> None:
    """Spoil one record."""
    image, annotation = whole["images"][3], whole["annotations"][3]
    if change == "short box":
        annotation["bbox"] = [1, 2, 3]
    elif change == "text in a box":
        annotation["bbox"] = [1, 2, "3", 4]
    elif change == "NaN":
        annotation["bbox"] = [1, 2, float("nan"), 4]
    elif change == "negative":
        annotation["bbox"] = [1, 2, -3, 4]
    elif change == "no box":
        del annotation["bbox"]
    elif change == "lost annotation":
        annotation["image_id"] = 4444
    elif change == "no ids":
        whole["annotations"][3] = {"bbox": [1, 2, 3, 4]}
    elif change == "no category":
        del annotation["category_id"]
    elif change == "list as category":
        annotation["category_id"] = [1]
    elif change == "unknown category":
        annotation["category_id"] = "1"  # not 1
    elif change == "hundreds of digits":
        annotation["bbox"] = [1, 2, 10**400, 4]
    elif change == "missing image":
        (root / "images" / image["file_name"]).unlink()
    elif change == "no image":
        (root / "images" / image["file_name"]).write_text("hello")
    elif change == "other size":
        image["width"] = 81
    elif change == "turned":
        image["width"], image["height"] = 60, 80
    elif change == "escapes":
        image["file_name"] = "../annotations/instances.json"
    elif change == "absolute":
        image["file_name"] = "/etc/passwd"
    elif change == "double id":
        image["id"] = whole["images"][2]["id"]
        del whole["annotations"][3]
    elif change == "same label":
        draw(root / "images" / "photo_2a.png")
        whole["images"][3]["file_name"] = "photo_2a.png"
    elif change == "gif":
        Image.new("RGB", (80, 60)).save(root / "images" / "x.gif")
        image["file_name"] = "x.gif"
    elif change == "tiny":
        draw(root / "images" / image["file_name"], (5, 5))
        image["width"] = image["height"] = 5


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ("short box", "annotations[3] (image 10)", "a box of four numbers was expected, found [1, 2, 3]"),
        ("text in a box", "annotations[3] (image 10)", "a box of four numbers was expected"),
        ("NaN", "annotations[3] (image 10)", "not finite"),
        ("negative", "annotations[3] (image 10)", "negative width or height"),
        ("no box", "annotations[3] (image 10)", "found None"),
        ("lost annotation", "instances.json", "annotations of an image 4444 that is not in `images`"),
        ("no ids", "annotations[3]", "image_id and category_id were expected"),
        ("no category", "annotations[3]", "image_id and category_id were expected"),
        ("list as category", "annotations[3]", "ids must be whole numbers or text"),
        ("unknown category", "annotations[3]", "the category '1' is not in `categories`"),
        ("hundreds of digits", "annotations[3] (image 10)", "beyond those of 64 bits"),
        ("missing image", "images[3] (photo_3a.jpg)", "there is no image"),
        ("no image", "images[3] (photo_3a.jpg)", "cannot be read as an image"),
        ("other size", "images[3] (photo_3a.jpg)", "measures 80 x 60 as shown, the annotations say 81 x 60"),
        ("turned", "images[3] (photo_3a.jpg)", "turned by EXIF?"),
        ("escapes", "images[3]", "leads out of the image folder"),
        ("absolute", "images[3]", "leads out of the image folder"),
        ("double id", "images[3]", "the id 9 is there twice"),
        ("same label", "images[3] (photo_2a.png)", "; rename one, with its label"),
        ("gif", "images[3] (x.gif)", "x.gif is no image that is read"),
        ("tiny", "images[3] (photo_3a.jpg)", "too small to train on"),
    ],
)
def test_a_bad_record_is_named_and_skipped_on_demand(change: str, where: str, what: str, tmp_path: Path) -> None:
    root = tmp_path / "source"
    path = coco(root)
    whole = json.loads(path.read_text())
    broken(change, whole, root)
    path.write_text(json.dumps(whole))
    out = tmp_path / "out"
    ended = prepare("coco", path, "--out", out)
    assert ended.code == 1
    assert "the source has 1 bad record" in ended.err
    (line,) = [line for line in ended.err.splitlines() if what in line]
    assert str(path) in line
    assert where in line
    assert not out.exists()
    ended = made("coco", path, "--out", out, "--skip-bad")
    assert manifest(out)["bad_records"] == 1
    assert what in manifest(out)["bad"][0]
    assert what in ended.out
    # Whoever has a bad box would be background: the image is left out, too.
    assert len(labels(out)) == (30 if change in ("lost annotation", "no ids") else 29)


def test_every_bad_record_in_one_message(tmp_path: Path) -> None:
    path = coco(tmp_path)
    whole = json.loads(path.read_text())
    for annotation in whole["annotations"]:
        annotation["bbox"] = "here"
    path.write_text(json.dumps(whole))
    ended = prepare("coco", path, "--out", tmp_path.parent / "never")
    assert "the source has 30 bad records" in ended.err
    assert ended.err.count("annotations[") == 20
    assert "... and 10 more" in ended.err


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "is not json: Expecting property name"),
        ("[]", "has no list `images`"),
        ('{"images": [], "annotations": {}, "categories": []}', "has no list `annotations`"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}', "names no image"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 1, "name": "car"}]}',
         "--category NAME"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [3]}', "categories[0]"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], '
         '"categories": [{"id": [1], "name": "person"}]}',
         "categories[0]"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], '
         '"categories": [{"id": 1, "name": "person"}], '
         f'"n": {"9" * 5000}}}', "cannot be read as json"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "segments_info": []}], '
         '"categories": [{"id": 1, "name": "person"}]}', "is a panoptic json"),
    ],
)  # fmt: skip
def test_what_is_no_coco_json(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    draw(tmp_path / "a.jpg")
    ended = prepare("coco", path, "--out", tmp_path / "sub" / "out")
    assert ended.code == 1
    assert what in ended.err
    assert str(path) in ended.err
    assert content(tmp_path).keys() == {"x.json", "a.jpg"}


def test_images_that_are_not_found(tmp_path: Path) -> None:
    path = coco(tmp_path / "s")
    (tmp_path / "s" / "images").rename(tmp_path / "elsewhere")
    ended = prepare("coco", path, "--out", tmp_path / "out")
    assert ended.code == 1
    assert "--images FOLDER" in ended.err
    assert str(tmp_path / "s" / "instances") in ended.err  # where it looked
    made("coco", path, "--images", tmp_path / "elsewhere", "--out", tmp_path / "out")


def test_few_photos_leave_a_split_empty(tmp_path: Path) -> None:
    ended = prepare("coco", coco(tmp_path / "s", 3), "--val-share", 0.01, "--test-share", 0, "--out", tmp_path / "out")
    assert ended.code == 1
    assert "no image falls to val" in ended.err
    assert not (tmp_path / "out").exists()


def test_another_category(tmp_path: Path) -> None:
    made("coco", coco(tmp_path / "s", 30, {2: [{"bbox": [1, 1, 9, 9], "category_id": 3}]}), "--category", "Car",
         "--out", tmp_path / "out")  # fmt: skip
    assert same(labels(tmp_path / "out")["photo_2a.jpg"], [(1, 1, 10, 10)])
    assert sum(map(len, labels(tmp_path / "out").values())) == 1


def test_a_json_of_captions_is_recognised(tmp_path: Path) -> None:
    path = coco(tmp_path / "s")
    content = json.loads(path.read_text())
    content["annotations"] = [{"id": 1, "image_id": 7, "caption": "a person in a hall"}]
    path.write_text(json.dumps(content))
    ended = prepare("coco", path, "--skip-bad", "--out", tmp_path / "out")
    assert "is a json of captions" in ended.err
    assert ended.code == 1


def test_a_crowd_is_0_or_1(tmp_path: Path) -> None:
    """Text was taken for a crowd, whose image is left out."""
    path = coco(tmp_path / "s", boxes={3: [{"bbox": [1, 2, 30, 40], "iscrowd": "0"}]})
    ended = prepare("coco", path, "--out", tmp_path / "out")
    assert "annotations[3] (image 10): iscrowd is '0'; 0 or 1 were expected" in ended.err


def test_whole_numbers_may_be_written_as_pandas_does(tmp_path: Path) -> None:
    path = coco(tmp_path / "source")
    whole = json.loads(path.read_text())
    made("coco", path, "--out", tmp_path / "whole")
    for image in whole["images"]:
        image |= {key: float(image[key]) for key in ("id", "width", "height")}
    for annotation in whole["annotations"]:
        annotation |= {key: float(annotation[key]) for key in ("image_id", "category_id")}
    path.write_text(json.dumps(whole))
    made("coco", path, "--out", tmp_path / "floats")
    assert labels(tmp_path / "floats") == labels(tmp_path / "whole")


def test_a_name_that_is_too_long_is_not_found(tmp_path: Path) -> None:
    path = coco(tmp_path)
    whole = json.loads(path.read_text())
    whole["images"][0]["file_name"] = "x" * 300 + ".jpg"
    path.write_text(json.dumps(whole))
    assert "the images are not found" in prepare("coco", path, "--out", tmp_path.parent / "never").err
