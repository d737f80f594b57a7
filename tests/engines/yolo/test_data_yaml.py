"""Where a dataset's images and labels are found: every spelling of data.yaml, from any working directory."""

import errno
from pathlib import Path

import pytest

from watchme.core.errors import DataError
from watchme.engines.yolo.data_yaml import read_layout
from yolo.world import draw_dataset

SPLITS = {"train": 1, "val": 1, "test": 1}


@pytest.mark.parametrize("working", ["elsewhere", "root", "above"])
@pytest.mark.parametrize(
    "yaml",
    [
        "train: images/train\nval: images/val\ntest: images/test\nnc: 1\nnames: ['person']\n",
        "path: {root}\ntrain: images/train\nval: images/val\ntest: images/test\nnames: {{0: person}}\n",
        "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [person]\n",
        "path: src/dataset/yolo\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [person]\n",
        "path: /of/another/machine\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [person]\n",
        "train: {root}/images/train\nval: {root}/images/val\ntest: {root}/images/test\nnames: [person]\n",
        "train: ../images/train\nval: ../images/val\ntest: ../images/test\nnames: [person]\n",
        "train: [images/train]\nvalidation: images/val\ntest: images/test\nnames: [person]\n",
        "train: images/train\nval: images/val\nnames: [person]\n",
        "names: [person]\n",
        "",
    ],
    ids=[
        "plain",
        "absolute",
        "dot",
        "guide",
        "moved",
        "absolute-splits",
        "roboflow",
        "list",
        "no-test",
        "names",
        "none",
    ],
)
def test_every_spelling_finds_the_images(
    yaml: str, working: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "above" / "root"
    draw_dataset(root, SPLITS, yaml=yaml.format(root=root))
    (tmp_path / "elsewhere").mkdir()
    place = {"elsewhere": tmp_path / "elsewhere", "root": root, "above": root.parent}[working]
    monkeypatch.chdir(place)
    given = {"elsewhere": root, "root": Path(), "above": Path("root")}[working]
    layout = read_layout(given)
    for split in SPLITS:
        (place_of,) = layout.splits[split]
        assert place_of.resolve() == root / "images" / split
    assert layout.names == ("person",)
    assert (layout.source is None) == (yaml == "")


def test_dataset_yaml_and_a_yaml_as_root(tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", SPLITS, yaml="")
    (root / "dataset.yaml").write_text("train: images/train\nval: images/val\nnames: [human]\n")
    assert read_layout(root).names == ("human",)
    assert read_layout(root / "dataset.yaml").names == ("human",)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images/train\nval: images/val\nnc: 2\nnames: [person]\n", "nc is 2 but names has 1"),
        ("train: images/train\nval: images/val\nnc: many\n", "nc must be a number"),
        ("train: images/train\nval: images/val\nnames: {0: a, 2: b}\n", "run from 0 without a gap"),
        ("train: images/train\nval: images/val\nnames: {a: 0}\n", "must be class ids"),
        ("train: images/train\nval: images/val\nnames: person\n", "must be a list or a mapping"),
        ("train: images/train\nval: images/valid\nnames: [person]\n", "images/valid"),
        ("train: images/train\nnames: [person]\n", "no val images"),
        ("- a list\n", "is not a mapping"),
        ("train: [images/train\n", "is not valid yaml"),
    ],
)
def test_faults_of_the_yaml_are_named(yaml: str, message: str, tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 1, "val": 1}, yaml=yaml)
    with pytest.raises(DataError, match=message):
        read_layout(root)


def test_an_evaluation_needs_its_split_alone(tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"test": 1}, yaml="")
    assert set(read_layout(root, ("test",)).splits) == {"test"}
    assert set(read_layout(root, ()).splits) == {"test"}
    with pytest.raises(DataError, match="no train and no val images"):
        read_layout(root)


def test_a_yaml_that_may_not_be_read_is_not_called_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 1, "val": 1})

    def denied(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(DataError, match=r"data\.yaml cannot be read: Permission denied$"):
        read_layout(root)


def test_kept_classes(tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 1, "val": 1}, ("car", "person"))
    layout = read_layout(root)
    assert layout.kept_classes(None) == {0: 0, 1: 1}
    assert layout.kept_classes(["person"]) == layout.kept_classes([1]) == layout.kept_classes([1, "person"]) == {1: 0}
    with pytest.raises(DataError, match="0: car, 1: person"):
        layout.kept_classes(["dog"])


def test_a_name_of_two_classes_does_not_choose_the_first(tmp_path: Path) -> None:
    layout = read_layout(draw_dataset(tmp_path / "d", {"train": 1, "val": 1}, ("person", "car", "person")))
    with pytest.raises(DataError, match="'person', as two classes are called; name them by their ids"):
        layout.kept_classes(["person"])
    assert layout.kept_classes([0, 2]) == {0: 0, 2: 1}
