"""The checked copy of a dataset: what is refused, what is counted, and that the user's files stay as they are."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image
from ultralytics.data.utils import img2label_paths

from watchme.core.errors import DataError, WatchmeError
from watchme.engines.yolo import checked_copy as data
from watchme.engines.yolo.data_yaml import read_layout
from watchme.engines.yolo.isolation import isolate
from yolo.world import draw_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return draw_dataset(tmp_path / "d", {"train": 4, "val": 2})


def prepare(root: Path, classes: list[int | str] | None = None) -> tuple[Path, data.Scan]:
    return data.prepare(read_layout(root), classes)


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_counts(root: Path) -> None:
    (root / "labels" / "val" / "001.txt").write_text("\n")
    _, scan = prepare(root)
    # The first of four drawn images has no label file; the label file emptied here makes another negative.
    assert scan.splits["train"] == {"images": 4, "boxes": 3, "negatives": 1, "unlabelled": 1, "unreadable": 0}
    assert scan.splits["val"] == {"images": 2, "boxes": 0, "negatives": 2, "unlabelled": 1, "unreadable": 0}


def test_copy_is_as_ultralytics_wants_it(root: Path) -> None:
    from ultralytics.data.utils import check_det_dataset

    path, _ = prepare(root)
    checked = check_det_dataset(str(path))
    assert Path(checked["train"]).samefile(path.parent / "images" / "train")
    assert checked["names"] == {0: "person"}
    assert (path.parent / "images" / "train" / "001.jpg").samefile(root / "images" / "train" / "001.jpg")


def test_same_files_give_the_same_copy_and_changed_ones_another(root: Path) -> None:
    first, scan = prepare(root)
    assert prepare(root)[0] == first
    label = root / "labels" / "train" / "001.txt"
    label.write_text(label.read_text() + "0 0.5 0.5 0.1 0.1\n")
    second, changed = prepare(root)
    assert second != first
    assert changed.splits["train"]["boxes"] == scan.splits["train"]["boxes"] + 1


def test_equal_data_have_one_fingerprint_wherever_they_are(root: Path, tmp_path: Path) -> None:
    """Paths and times were in it: runs on a copy, or after a `touch`, were taken to be on other data."""
    first = prepare(root)[1].fingerprint
    copied = shutil.copytree(root, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert prepare(copied)[1].fingerprint == first
    for path in root.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    assert prepare(root)[1].fingerprint == first


@pytest.mark.parametrize("change", ["label", "image", "name", "split", "class"])
def test_other_data_have_another_fingerprint(change: str, root: Path) -> None:
    first = prepare(root)[1].fingerprint
    image, label = (root / kind / "train" / f"001.{suffix}" for kind, suffix in (("images", "jpg"), ("labels", "txt")))
    if change == "label":
        label.write_text(label.read_text().replace(label.read_text().split()[1], "0.500000"))
    elif change == "image":
        Image.new("RGB", (200, 100)).save(image)
    elif change == "name":
        image.rename(image.with_name("other.jpg"))
        label.rename(label.with_name("other.txt"))
    elif change == "split":
        image.rename(root / "images" / "val" / "other.jpg")
        label.rename(root / "labels" / "val" / "other.txt")
    else:
        text = (root / "data.yaml").read_text()
        (root / "data.yaml").write_text(text.replace("person", "cyclist"))
    assert prepare(root)[1].fingerprint != first


def spoil_jpeg(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def spoil_png(path: Path) -> None:
    with Image.open(path) as image:
        image.save(path, "PNG")
    path.write_bytes(path.read_bytes()[:-400])


def spoil_bmp(path: Path) -> None:
    with Image.open(path) as image:
        image.save(path, "BMP")
    path.write_bytes(path.read_bytes()[:2000])


SPOILERS: list[Callable[[Path], object]] = [
    spoil_jpeg,
    spoil_png,
    spoil_bmp,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("no image"),
    lambda path: Image.new("RGB", (5, 5)).save(path),
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=["truncated", "png", "bmp", "empty", "text", "five pixels wide"])
def test_unreadable_image_is_left_out_and_counted(spoil: Callable[[Path], object], root: Path) -> None:
    spoiled = root / "images" / "train" / "002.jpg"
    spoil(spoiled)
    before = files(root)
    path, scan = prepare(root)
    (skipped,) = scan.skipped
    assert skipped.startswith(f"{spoiled} (")
    assert scan.splits["train"]["unreadable"] == 1
    assert scan.splits["train"]["images"] == 3
    assert not (path.parent / "images" / "train" / "002.jpg").exists()
    assert files(root) == before, "ultralytics would have written a restored JPEG over it"


def test_split_without_a_readable_image(root: Path) -> None:
    for path in (root / "images" / "val").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"val split has no readable image .*000\.jpg"):
        prepare(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1.5 0.5 0.1 0.1", "outside 0..1"),
        ("0 -0.5 0.5 0.1 0.1", "outside 0..1"),
        ("0 320 240 50 80", "outside 0..1"),
        ("0 nan 0.5 0.1 0.1", "outside 0..1"),
        ("0 0.5 0.5 -0.005 0.1", "negative"),
        ("1 0.5 0.5 0.1 0.1", r"class 1 is not in 0..0 \(nc is 1\)"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is not"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is not"),
        ("nan 0.5 0.5 0.1 0.1", "class nan is not"),
        ("inf 0.5 0.5 0.1 0.1", "class inf is not"),
        ("0 0.5 0.5 0.1", "expected `class cx cy w h`, got 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "got 6 numbers"),
        ("person 0.5 0.5 0.1 0.1", "not numbers: person"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2", "boxes and polygons"),
    ],
)
def test_invalid_label_is_an_error_that_names_file_and_line(line: str, message: str, root: Path) -> None:
    label = root / "labels" / "train" / "001.txt"
    label.write_text(label.read_text() + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        prepare(root)
    assert f"{label}:2:" in str(caught.value)
    assert str(caught.value).startswith("1 label line is not valid")


def test_many_faults_are_counted(root: Path) -> None:
    (root / "labels" / "train" / "001.txt").write_text("9 0.5 0.5 0.1 0.1\n" * 30)
    with pytest.raises(DataError, match=r"^30 label lines are not valid") as caught:
        prepare(root)
    assert str(caught.value).count("001.txt") == 20
    assert "and 10 more" in str(caught.value)


def test_polygons_count_as_boxes(root: Path) -> None:
    (root / "labels" / "train" / "001.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    assert prepare(root)[1].splits["train"]["boxes"] == 3


def test_multi_class_dataset_is_reduced_to_persons(tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 4, "val": 2}, ("car", "person"))
    path, scan = prepare(root, ["person"])
    assert scan.names == ["person"]
    assert yaml.safe_load(path.read_text())["names"] == {0: "person"}
    for label in (root / "labels").rglob("*.txt"):
        kept = (path.parent / label.relative_to(root)).read_text().splitlines()
        assert kept == ["0" + line[1:] for line in label.read_text().splitlines() if line.startswith("1 ")]


def test_list_files_may_name_images_of_one_name(tmp_path: Path) -> None:
    """Two cameras number their frames alike; a list names both."""
    for camera in ("a", "b"):
        draw_dataset(tmp_path / camera, {"train": 2, "val": 1}, yaml="", seed=ord(camera))
    images = sorted(str(path) for camera in "ab" for path in (tmp_path / camera / "images" / "train").iterdir())
    (tmp_path / "train.txt").write_text("\n".join(images))
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: [a/images/val, b/images/val]\nnames: [person]\n")
    path, scan = prepare(tmp_path)
    assert scan.splits["train"]["images"] == 4
    assert scan.splits["val"]["images"] == 2
    linked = {link.resolve() for link in (path.parent / "images" / "train").rglob("*.jpg")}
    assert linked == {Path(image) for image in images}


@pytest.fixture
def read_only(root: Path) -> Iterator[Path]:
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield root
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)


def test_user_dataset_is_only_read(read_only: Path) -> None:
    """Also by ultralytics, which leaves caches beside labels and images."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    before = files(read_only)
    path, _ = prepare(read_only)
    checked = check_det_dataset(str(path))
    arguments = get_cfg(overrides={"cache": "disk", "imgsz": 64})
    dataset = build_yolo_dataset(arguments, checked["train"], 2, checked, mode="train", stride=32)
    assert len(dataset) == 4
    assert list(path.parent.rglob("*.cache")), "there is a cache, but in our folder"
    assert list((path.parent / "images").rglob("*.npy"))
    assert files(read_only) == before


def test_two_processes_may_prepare_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's copy is there when ours is to be renamed into place."""
    path, scan = prepare(root)
    shutil.copytree(path.parent, path.parent.with_name("kept"), symlinks=True)
    shutil.rmtree(path.parent)
    whole_folder = data.whole_folder

    @contextlib.contextmanager
    def late(folder: Path, last: str) -> Iterator[Path]:
        with whole_folder(folder, last) as temporary:
            yield temporary
            path.parent.with_name("kept").rename(folder)

    monkeypatch.setattr(data, "whole_folder", late)
    assert prepare(root) == (path, scan)
    assert not [left for left in path.parent.parent.iterdir() if left.name.startswith(".")]


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["0 0.5 0.5 0.2 0.4 0.9"], "a box with its confidence?"),
        (["0 0.5 0.5 0.2 0.4 0.9 12"], "a box with confidence and track"),
        (["0 0.5 0.5 0.2 0.4 0.9 1", "0 0.3 0.5 0.2 0.4 0.8 0"], "a box with confidence and track"),
        # Six keypoints with two values each in a box of 0.2 x 0.4
        (["0 0.5 0.5 0.2 0.4 0.42 0.32 0.58 0.32 0.45 0.5 0.55 0.5 0.44 0.69 0.57 0.69"], "looks like a pose"),
        # Four with a visibility
        (["0 0.5 0.5 0.2 0.4 0.42 0.32 1 0.58 0.32 0 0.45 0.69 1 0.55 0.5 1"], "looks like a pose"),
    ],
)
def test_labels_with_more_columns_are_no_polygons(lines: list[str], what: str, root: Path) -> None:
    label = root / "labels" / "train" / "001.txt"
    label.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        prepare(root)
    assert f"{label}:1: " in str(caught.value)
    assert what in str(caught.value)


def test_polygons_stay_polygons(root: Path) -> None:
    polygon = "0 0.31 0.2 0.42 0.21 0.45 0.5 0.4 0.8 0.33 0.81 0.3 0.5"
    (root / "labels" / "train" / "002.txt").write_text(polygon)
    (root / "labels" / "train" / "003.txt").write_text("0 0.31 0.2 0.42 0.21 0.45 0.5")  # three corners
    path, _ = prepare(root)
    labels = path.parent / "labels" / "train"
    assert (labels / "002.txt").read_text() == polygon + "\n"
    assert (labels / "003.txt").is_file()


def test_poses_are_boxes_where_data_yaml_says_so(root: Path) -> None:
    pose = "0 0.5 0.5 0.2 0.4 0.42 0.32 0.58 0.32 0.45 0.5 0.55 0.5 0.44 0.69 0.57 0.69"
    (root / "labels" / "train" / "001.txt").write_text(pose)
    (root / "data.yaml").write_text((root / "data.yaml").read_text() + "kpt_shape: [6, 2]\n")
    path, _ = prepare(root)
    labels = path.parent / "labels" / "train"
    assert (labels / "001.txt").read_text() == "0 0.5 0.5 0.2 0.4\n"
    (root / "data.yaml").write_text("kpt_shape: 17\ntrain: images/train\nval: images/val\n")
    with pytest.raises(DataError, match="kpt_shape must be"):
        prepare(root)


def test_a_linked_folder_is_read_whole_and_a_circle_of_links_once(root: Path, tmp_path: Path) -> None:
    other = draw_dataset(tmp_path / "other", {"train": 6}, seed=3)
    (root / "images" / "train" / "more").symlink_to(other / "images" / "train")
    (root / "labels" / "train" / "more").symlink_to(other / "labels" / "train")
    (other / "images" / "train" / "again").symlink_to(root / "images" / "train")
    _, scan = prepare(root)
    assert scan.splits["train"] == {"images": 10, "boxes": 7, "negatives": 3, "unlabelled": 3, "unreadable": 0}


def test_a_list_with_a_byte_order_mark_keeps_its_first_image(root: Path) -> None:
    (root / "train.txt").write_text("\ufeff./images/train/001.jpg\n./images/train/002.jpg\n", encoding="utf-8")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [person]\n")
    _, scan = prepare(root)
    assert scan.splits["train"]["images"] == 2
    os.mkfifo(root / "list.fifo")
    (root / "data.yaml").write_text("train: list.fifo\nval: images/val\nnames: [person]\n")
    with pytest.raises(DataError, match=r"train: .*list\.fifo is neither a folder of images nor a file"):
        prepare(root)


def test_images_of_formats_that_are_not_read_are_counted(root: Path) -> None:
    for name in ("a.heic", "b.GIF", "notes.txt"):
        (root / "images" / "train" / name).write_bytes(b"x")
    _, scan = prepare(root)
    assert [Path(name).name for name in scan.other_images] == ["a.heic", "b.GIF"]
    assert scan.splits["train"]["images"] == 4


def test_a_label_edited_within_its_size_and_time_is_read_again(root: Path) -> None:
    label = root / "labels" / "train" / "001.txt"
    before, first = label.stat(), prepare(root)
    text = label.read_text()
    label.write_text(text.replace(text.split()[1], "0.500000"))
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (label.stat().st_size, label.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = prepare(root)
    assert second[0] != first[0]
    assert "0 0.500000 " in (second[0].parent / "labels" / "train" / "001.txt").read_text()


def test_a_copy_that_lost_its_scan_is_made_again(root: Path) -> None:
    path, scan = prepare(root)
    (path.parent / "scan.json").unlink()
    assert prepare(root) == (path, scan)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"foo": 1}', '{"fingerprint": "another"}'])
def test_a_copy_whose_scan_is_damaged_is_made_again(content: str, root: Path) -> None:
    """Every further command ended in a traceback."""
    path, scan = prepare(root)
    (path.parent / "scan.json").write_text(content)
    (path.parent / "labels" / "train" / "001.txt").unlink()
    assert prepare(root) == (path, scan)
    assert (path.parent / "labels" / "train" / "001.txt").is_file()


def test_names_that_are_not_utf8_are_named(root: Path) -> None:
    folder = root / "images" / "train"
    (folder / "001.jpg").rename(folder / os.fsdecode(b"caf\xe9.jpg"))
    with pytest.raises(DataError, match=r"images/train has a name that is not UTF-8: b'caf\\xe9.jpg'.*convmv"):
        prepare(root)


def test_a_cache_that_cannot_be_written_is_named_with_the_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").touch()
    monkeypatch.setenv("WATCHME_CACHE", str(root / "file" / "cache"))
    for act in (lambda: prepare(root), isolate):
        with pytest.raises(WatchmeError, match=r"cannot be written .*export WATCHME_CACHE=<folder>"):
            act()


def test_a_billion_classes_are_refused(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 1000000000\n")
    with pytest.raises(DataError, match="nc is 1000000000"):
        prepare(root)


def test_labels_below_a_folder_called_images_are_found_by_ultralytics(tmp_path: Path) -> None:
    """`train: train` with train/images and train/labels: the copy's labels lay where ultralytics did not look."""
    for split in ("train", "val"):
        drawn = draw_dataset(tmp_path / f"drawn_{split}", {split: 4})
        for kind in ("images", "labels"):
            shutil.copytree(drawn / kind / split, tmp_path / "data" / split / kind)
    (tmp_path / "data" / "data.yaml").write_text("train: train\nval: val\nnames: [person]\n")
    copy, scan = prepare(tmp_path / "data")
    images = [str(path) for path in (copy.parent / "images" / "train").rglob("*.jpg")]
    found = [path for path in map(Path, img2label_paths(images)) if path.is_file()]
    assert len(images) == 4
    assert sum(len(path.read_text().splitlines()) for path in found) == scan.splits["train"]["boxes"] == 3


def test_a_listed_file_with_an_unread_suffix_is_counted(tmp_path: Path) -> None:
    """ultralytics would drop it, though its content is a JPEG."""
    root = draw_dataset(tmp_path / "d", {"train": 4, "val": 2})
    shutil.copy(root / "images" / "train" / "001.jpg", root / "images" / "train" / "saved.jfif")
    (root / "train.txt").write_text("images/train/001.jpg\nimages/train/saved.jfif\n")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [person]\n")
    _, scan = prepare(root)
    assert (scan.splits["train"]["images"], scan.splits["train"]["unreadable"]) == (1, 1)
    assert "files called .jfif are not read" in scan.skipped[0]


def test_what_is_no_image_is_said_in_words_after_ultralytics_was_imported(root: Path) -> None:
    """Its reader looks for a package that reads HEIC, and raises that it is missing."""
    isolate()
    (root / "images" / "train" / "page.jpg").write_text("<html>")
    _, scan = prepare(root)
    assert [text for text in scan.skipped if "page.jpg" in text] == [
        f"{root / 'images' / 'train' / 'page.jpg'} (no image of a known format)"
    ]
