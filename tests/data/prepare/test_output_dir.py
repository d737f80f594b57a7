"""The output folder: done once, resumed after a kill, linked, and never mixed with something else."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image

from prepare.made import (
    Track,
    coco,
    content,
    draw,
    labels,
    made,
    manifest,
    mot,
    prepare,
    run_and_kill,
    splits_of,
    state,
    written,
)
from watchme.core.errors import DataError
from watchme.data.prepare.output_dir import filling

CROWD = {"bbox": [40, 0, 40, 60], "iscrowd": 1}
CROWDED: dict[int, list[dict[str, object]]] = {number: [{"bbox": [5, 5, 20, 50]}, CROWD] for number in range(10)}


def test_twice_is_once_and_the_source_is_not_touched(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 40, CROWDED)
    before = state(tmp_path / "source")
    out = tmp_path / "out"
    first = made("coco", source, "--ignored", "paint", "--out", out)
    after = state(out)
    second = made("coco", source, "--ignored", "paint", "--out", out)
    assert state(out) == after
    assert state(tmp_path / "source") == before
    assert written(first) == (len(after), 0)
    assert written(second) == (0, len(after))
    assert not (out / "prepare.unfinished.json").exists()
    assert not (out / ".prepare").exists()
    assert manifest(out)["made_by"] == "python -m watchme.data.prepare coco"


def test_images_are_hard_links(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 30)
    made("coco", source, "--out", tmp_path / "out")
    for path in (tmp_path / "out" / "images").rglob("*.jpg"):
        original = tmp_path / "source" / "images" / path.name
        assert path.stat().st_ino == original.stat().st_ino
    copied = made("coco", source, "--out", tmp_path / "copies", "--copy")
    for path in (tmp_path / "copies" / "images").rglob("*.jpg"):
        original = tmp_path / "source" / "images" / path.name
        assert path.stat().st_ino != original.stat().st_ino
        assert path.read_bytes() == original.read_bytes()
    assert "new, 30 of them copies" in copied.out
    assert written(made("coco", source, "--out", tmp_path / "copies", "--copy"))[0] == 0
    # Who asks for copies afterwards gets them.
    assert "new, 30 of them copies" in made("coco", source, "--out", tmp_path / "out", "--copy").out


def test_links_to_symbolic_links_are_links_to_their_files(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 30)
    for path in sorted((tmp_path / "source" / "images").iterdir()):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    made("coco", source, "--out", tmp_path / "out")
    for path in (tmp_path / "out" / "images").rglob("*.jpg"):
        assert not path.is_symlink()
        assert path.samefile(tmp_path / path.name)


def test_across_file_systems_images_are_copied_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    source = coco(tmp_path / "source", 30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        ended = made("coco", source, "--out", tmp_path / "out")
    assert ended.err.count("images are copied") == 1
    assert "Invalid cross-device link" in ended.err
    before = state(tmp_path / "out")
    made("coco", source, "--out", tmp_path / "out")
    assert state(tmp_path / "out") == before
    shutil.rmtree(tmp_path / "source")
    assert len(labels(tmp_path / "out")) == 30


def test_a_full_disk_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    source = coco(tmp_path / "source", 30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        ended = prepare("coco", source, "--out", tmp_path / "out")
    assert ended.code == 1
    assert ended.err.strip() == "somewhere: No space left on device"


@pytest.mark.parametrize(("kind", "after"), [("link", 7), ("rename", 1), ("rename", 30), ("write", 12), ("image", 4)])
def test_killed_and_started_again_it_ends_with_the_same_tree(kind: str, after: int, tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 40, CROWDED)
    made("coco", source, "--ignored", "paint", "--out", tmp_path / "straight")
    out = tmp_path / "out"
    assert run_and_kill(kind, after, "coco", source, "--ignored", "paint", "--out", out) == -signal.SIGKILL
    assert not (out / "prepare.json").exists()
    for path in (out / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()  # whatever is there is whole
    halfway = {name: mark for name, mark in state(out).items() if not name.startswith((".prepare", "prepare."))}
    made("coco", source, "--ignored", "paint", "--out", out)
    assert content(out) == content(tmp_path / "straight")
    again = state(out)
    assert {name: again[name] for name in halfway} == halfway  # nothing was done twice


def test_a_killed_cut_goes_on(tmp_path: Path) -> None:
    tracks = [Track(number, range(1, 30), left=5.0 * number) for number in (1, 2, 3)]
    for name in ("A-01", "A-02", "A-03"):
        mot(tmp_path / "source", name, tracks)
    command = ("mot", tmp_path / "source", "--to", "reid", "--every", 2, "--out")
    made(*command, tmp_path / "straight")
    out = tmp_path / "out"
    assert run_and_kill("image", 20, *command, out) == -signal.SIGKILL
    halfway = {name: mark for name, mark in state(out).items() if name.endswith("jpg") and not name.startswith(".")}
    assert len(halfway) == 19
    made(*command, out)
    assert content(out) == content(tmp_path / "straight")
    again = state(out)
    assert {name: again[name] for name in halfway} == halfway


def test_other_options_need_another_folder(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 40, CROWDED)
    out = tmp_path / "out"
    made("coco", source, "--out", out)
    before = state(out)
    ended = prepare("coco", source, "--out", out, "--ignored", "keep", "--val-share", 0.2)
    assert ended.code == 1
    assert "val_share: 0.1 there, 0.2 now" in ended.err
    assert "ignored: 'drop' there, 'keep' now" in ended.err
    assert state(out) == before


def test_photos_that_are_added_join_the_dataset(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 30)
    out = tmp_path / "out"
    made("coco", source, "--out", out)
    before = splits_of(out)
    coco(tmp_path / "source", 50)
    made("coco", source, "--out", out)
    assert before.items() <= splits_of(out).items()
    assert len(labels(out)) == 50
    coco(tmp_path / "source", 20)  # some are gone: nothing is deleted behind the user's back
    ended = prepare("coco", source, "--out", out)
    assert ended.code == 1
    assert "files that this source does not give (any more)" in ended.err
    assert len(labels(out)) == 50


def test_painted_images_follow_a_source_that_changed(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 40, CROWDED)
    out = tmp_path / "out"
    made("coco", source, "--ignored", "paint", "--out", out)
    path = tmp_path / "source" / "images" / "photo_3a.jpg"
    path.unlink()  # a new file: the old one is linked from nowhere, but its painted copy is there
    draw(path, seed=99)
    before = content(out)
    made("coco", source, "--ignored", "paint", "--out", out)
    changed = {name for name, digest in content(out).items() if before[name] != digest}
    assert {Path(name).name for name in changed} == {"photo_3a.jpg", "prepare.json"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 30)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    ended = prepare("coco", source, "--out", other)
    assert ended.code == 1
    assert "holds something else, e.g. thesis.txt" in ended.err
    assert content(other).keys() == {"thesis.txt"}
    assert "is a file" in prepare("coco", source, "--out", other / "thesis.txt").err
    ended = prepare("coco", source, "--out", tmp_path / "source" / "images" / "out")
    assert ended.code == 1
    assert "which is only read" in ended.err
    (other / "thesis.txt").unlink()
    made("coco", source, "--out", other)  # an empty folder will do
    (other / "prepare.json").write_text("{")
    assert "is damaged" in prepare("coco", source, "--out", other).err


def test_one_process_at_a_time(tmp_path: Path) -> None:
    source = coco(tmp_path / "source", 30)
    with filling(tmp_path / "out", "coco", {}, "x"):
        ended = prepare("coco", source, "--out", tmp_path / "out")
    assert ended.code == 1
    assert "another process is filling" in ended.err


def test_an_error_leaves_no_half_file(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise DataError("no")

    with pytest.raises(DataError), filling(tmp_path / "out", "coco", {}, "x") as folder:
        folder.make("a/b.txt", fail)
    assert json.loads((tmp_path / "out" / "prepare.unfinished.json").read_text())["fingerprint"] == "x"
    assert content(tmp_path / "out").keys() == {"prepare.unfinished.json"}
