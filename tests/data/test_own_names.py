"""Names of one's own: templates, regular expressions and CSVs, against who is known to be in the images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from watchme.core.errors import ConfigError, DataError
from watchme.data.formats.own_dataset import has_test, read_own
from watchme.data.formats.own_names import compiled, numbers

PEOPLE = ("anna", "bob", "0007")


def image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 64), (seed % 255, 40, 90)).save(path)
    return path


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        ("{id}_{camera}_{*}", "anna_c3_000151.jpg", {"id": "anna", "camera": "c3"}),
        ("{id}/{*}", "deep/anna/x_1.jpg", {"id": "anna"}),
        ("{camera}/{id}/{*}", "door/anna/1.png", {"id": "anna", "camera": "door"}),
        ("{id}C{camera}T{tracklet}F{*}", "0065C1T0002F016.jpg", {"id": "0065", "camera": "1", "tracklet": "0002"}),
        ("{id}/{tracklet}/{*}", "anna/t2/000001.jpg", {"id": "anna", "tracklet": "t2"}),
        (r"(?P<camera>cam\d+).*id(?P<id>\d+)", "2026/cam12-x-id33.webp", {"id": "33", "camera": "cam12"}),
        ("{id}_{*}.jpg", "p+1_(2).jpg", {"id": "p+1"}),
        ("{id}_{camera}_{*}", "person-0001_cam-1_000151.jpg", {"id": "person-0001", "camera": "cam-1"}),
        ("{id}/{*}", "person_1-b/x.jpg", {"id": "person_1-b"}),
    ],
)
def test_what_a_path_says(pattern: str, name: str, said: dict[str, str]) -> None:
    match = compiled(pattern).rule.search(name)
    assert match is not None
    assert match.groupdict() == said


@pytest.mark.parametrize("pattern", ["{camera}_{*}", "{id}_{id}", "{id}_{cam}", "(?P<id>[", "(?P<id>"])
def test_no_pattern(pattern: str) -> None:
    with pytest.raises(DataError, match=r"dataset\.pattern"):
        compiled(pattern)


def test_numbers_are_the_same_with_and_without_zeros() -> None:
    assert numbers(["10", "0007", "7", "bob", "anna", "9"]) == {"7": 1, "0007": 1, "9": 2, "10": 3, "anna": 4, "bob": 5}


def test_all_images_of_a_folder_are_for_training(tmp_path: Path) -> None:
    for person in PEOPLE:
        for camera in ("door", "hall"):
            image(tmp_path / "a" / f"{person}_{camera}_1.jpg")
    (tmp_path / "a" / "x.gif").touch()
    (tmp_path / "notes.txt").touch()
    assert not has_test(tmp_path)
    splits = read_own(tmp_path, ("train",), "{id}_{camera}_{*}")
    assert [(crop.path.name, crop.pid, crop.cam) for crop in splits.train] == [
        ("0007_door_1.jpg", 1, 0),
        ("0007_hall_1.jpg", 1, 1),
        ("anna_door_1.jpg", 2, 0),
        ("anna_hall_1.jpg", 2, 1),
        ("bob_door_1.jpg", 3, 0),
        ("bob_hall_1.jpg", 3, 1),
    ]
    assert [one.path.name for one in splits.left_out] == ["x.gif"]


def test_the_three_folders_are_the_splits(tmp_path: Path) -> None:
    for folder, person, camera in (
        ("bounding_box_train", "a", "c1"),
        ("bounding_box_train", "b", "c1"),
        ("query", "c", "c1"),
        ("bounding_box_test", "c", "c2"),
    ):
        image(tmp_path / folder / f"{person}-{camera}.jpg")
    splits = read_own(tmp_path, ("train", "query", "gallery"), "{id}-{camera}")
    assert [crop.pid for crop in splits.train] == [1, 2]
    assert [(crop.pid, crop.cam) for crop in (*splits.query, *splits.gallery)] == [(3, 0), (3, 1)]


def test_images_of_a_tracklet_are_one_item(tmp_path: Path) -> None:
    for person in ("a", "b"):
        for tracklet in (1, 2):
            for frame in range(3):
                image(tmp_path / person / f"t{tracklet}" / f"{frame:03d}.jpg")
    splits = read_own(tmp_path, ("train",), "{id}/{tracklet}/{*}", tracklets=True)
    assert [(crop.pid, len(crop.frames)) for crop in splits.train] == [(1, 3), (1, 3), (2, 3), (2, 3)]
    assert [path.name for path in splits.train[0].frames] == ["000.jpg", "001.jpg", "002.jpg"]


class TestCsv:
    def write(self, tmp_path: Path, *rows: str, head: str = "path,id,camera,split") -> Path:
        file = tmp_path / "crops.csv"
        file.write_text("\ufeff" + "\r\n".join([head, *rows]) + "\r\n", encoding="utf-8")
        return file

    def test_splits_of_the_list(self, tmp_path: Path) -> None:
        rows = []
        for person, split in (("a", "train"), ("b", "train"), ("c", "query"), ("c", "gallery"), ("d", "test")):
            for camera in ("1", "2"):
                name = f"im/{person}{split}{camera}.jpg"
                image(tmp_path / name)
                rows.append(f"{name},{person},{camera},{split}")
        file = self.write(tmp_path, *rows)
        assert has_test(file)
        splits = read_own(file, ("train", "query", "gallery"), None)
        assert [(crop.pid, crop.cam) for crop in splits.train] == [(1, 0), (1, 1), (2, 0), (2, 1)]
        assert {(crop.pid, crop.cam) for crop in splits.query} == {(3, 0), (3, 1), (4, 0), (4, 1)}
        assert {(crop.pid, crop.cam) for crop in splits.gallery} == {(3, 0), (3, 1)}

    def test_a_test_identity_of_one_camera_finds_its_later_images(self, tmp_path: Path) -> None:
        rows = [
            f"{image(tmp_path / f'{person}{n}.jpg').name},{person},1,{split}"
            for person, split in (("a", "train"), ("b", "train"), ("c", "test"))
            for n in range(6)
        ]
        splits = read_own(self.write(tmp_path, *rows), ("train", "query", "gallery"), None)
        assert [(crop.path.name, crop.cam) for crop in splits.query] == [("c0.jpg", 0)]
        assert [(crop.path.name, crop.cam) for crop in splits.gallery] == [("c4.jpg", 1), ("c5.jpg", 1)]

    def test_every_bad_row_is_named(self, tmp_path: Path) -> None:
        image(tmp_path / "a.jpg")
        file = self.write(
            tmp_path, "a.jpg,1,1,train", "b.jpg,1,1,train", "../c.jpg,1,1,", "a.jpg,,1,", "a.jpg,1,1,tst", "a.gif,1,1,"
        )
        with pytest.raises(DataError) as error:
            read_own(file, ("train",), None)
        told = str(error.value)
        assert "5 records cannot be used" in told
        for line, what in (
            (3, "No such file"),
            (4, "leads out"),
            (5, "no id"),
            (6, "the split is tst"),
            (7, "a.gif"),
        ):
            assert f"crops.csv:{line}: " in told
            assert what in told

    def test_a_header_is_needed(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="a header path,id"):
            read_own(self.write(tmp_path, "a.jpg,1", head="file,person"), ("train",), None)

    def test_a_column_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="the header has the column id twice"):
            read_own(self.write(tmp_path, "a.jpg,1,2", head="path,id,ID"), ("train",), None)


class TestKey:
    def test_unsound_patterns_are_told_before_anything_is_read(
        self, typed_config: Callable[..., Any], tmp_path: Path
    ) -> None:
        base = ("model=osnet", "dataset=market1501", f"dataset.root={tmp_path}")
        for extra, expected in (
            ("dataset.pattern='{cam}'", "expected {id} in it"),
            ("dataset.pattern={shop:'{id}'}", "does nothing with market1501"),
        ):
            with pytest.raises(ConfigError, match=expected):
                typed_config(*base, extra)
        with pytest.raises(ConfigError, match=r"needs \{tracklet\}"):
            typed_config(*base, "dataset.pattern='{id}_{*}'", "dataset.tracklets=true")
        with pytest.raises(ConfigError, match=r"dataset\.first_id"):
            typed_config(*base, "dataset.pattern='{id}_{*}'", "dataset.first_id=0")

    def test_a_folder_of_other_names_is_answered_with_the_ways(
        self, typed_config: Callable[..., Any], tmp_path: Path
    ) -> None:
        root = tmp_path / "two words"
        image(root / "anna" / "1.jpg")
        with pytest.raises(ConfigError) as error:
            typed_config("model=osnet", "dataset=market1501", f"dataset.root={root}")
        assert "dataset.pattern=" in str(error.value)
        assert f"prepare reid '{root}' --out '{root}_reid'" in " ".join(str(error.value).split())
