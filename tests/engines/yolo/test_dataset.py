"""The checked copy of a dataset: what is refused, what is counted, and that the user's files stay as they are."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from watchme.core.errors import DataError
from watchme.engines.yolo import dataset as data
from watchme.engines.yolo.layout import read_layout
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
    assert scan.skipped == [str(spoiled)]
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
