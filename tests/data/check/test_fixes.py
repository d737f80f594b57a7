"""Each problem's command: what is found is mended by it, and a second check finds it no more."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from check.conftest import Check
from watchme.core.errors import DataError
from watchme.data.check.fixes import command, mend
from watchme.data.check.issue_kinds import KINDS

NAMES = {"root": "/data/the people", "dataset": "person_detection", "model": "yolo11n", "task": "detection"}


def copy_over(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def spoil_detection(root: Path) -> dict[str, int]:
    """Spoil a drawn dataset; returns each problem with its number of findings."""
    images, labels = root / "images", root / "labels"
    (images / "train" / "001.jpg").write_bytes(b"no image")
    copy_over(images / "train" / "002.jpg", images / "test" / "900.jpg")
    copy_over(labels / "train" / "002.txt", labels / "test" / "900.txt")
    copy_over(images / "train" / "003.jpg", images / "train" / "903.jpg")
    copy_over(labels / "train" / "003.txt", labels / "train" / "903.txt")
    (labels / "train" / "999.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (labels / "train" / "005.txt").write_text("0 0.5 0.5 0.2 nonsense\n")
    (labels / "val" / "001.txt").write_text("0 0.95 0.5 0.3 0.2\n0 0.3 0.3 0.2 0.2\n")
    (labels / "val" / "002.txt").write_text("0 0.5 0.5 0.3 0.2\n0 0.5 0.5 0.3 0.2\n0 0.2 0.2 0.001 0.2\n")
    return {
        "unreadable image": 1,
        "image in two splits": 1,
        "duplicate image": 1,
        "label without image": 1,
        "malformed label": 1,
        "box outside the frame": 1,
        "duplicate box": 1,
        "box of no area": 1,
    }


def spoil_reid(root: Path) -> dict[str, int]:
    train, query = root / "bounding_box_train", root / "query"
    trained = sorted(train.glob("*.jpg"))
    first = trained[0]
    copy_over(first, train / f"{first.stem}9.jpg")
    (train / "nobody.jpg").write_bytes(trained[1].read_bytes() + b" ")
    asked = sorted(query.glob("*.jpg"))[0]
    name = asked.name.partition("_")[0]
    image = Image.new("RGB", (60, 128), (200, 30, 90))
    image.putpixel((3, 3), (0, 0, 0))
    image.save(train / f"{name}_c1s1_990001_00.jpg")
    Image.new("RGB", (90, 6), (0, 90, 30)).save(train / f"{first.name.partition('_')[0]}_c1s1_990002_00.jpg")
    return {"duplicate image": 1, "name breaks the convention": 1, "identity in train and test": 1, "odd size": 1}


@pytest.mark.parametrize("task", ["detection", "reid"])
def test_what_was_found_is_mended_and_not_found_again(
    task: str, check: Check, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root: Path = request.getfixturevalue(task)
    before = {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    expected = spoil_detection(root) if task == "detection" else spoil_reid(root)
    spoiled = {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    assert spoiled.keys() > before.keys()
    found = check(task, root)
    assert {kind: found.bad.get(kind) for kind in expected} == expected
    kept = found.folder.rename(tmp_path / "first")
    for problem in expected:
        aside, files, _ = mend(kept, problem, root)
        assert aside == root.with_name(f"{root.name}_set_aside") / "first"
        assert files
    again = check(task, root)
    assert not set(again.bad) & set(expected), again.bad
    # Nothing is lost: what is not in place as it was is set aside.
    held = {path.read_bytes() for folder in (root, aside) for path in folder.rglob("*") if path.is_file()}
    assert set(spoiled.values()) <= held


def test_a_box_is_clipped_and_other_lines_stay(check: Check, detection: Path) -> None:
    label = detection / "labels" / "val" / "001.txt"
    label.write_text("0 0.95 0.5 0.3 0.2\n0 0.3 0.3 0.2 0.2\n")
    found = check("detection", detection)
    assert mend(found.folder, "box outside the frame", detection)[1:] == (1, 1)
    first, second = label.read_text().splitlines()
    # From 0.8 to 1.0.
    assert [float(value) for value in first.split()] == [0, 0.9, 0.5, 0.2, 0.2]
    assert second == "0 0.3 0.3 0.2 0.2"


def test_every_error_and_warning_has_a_command(tmp_path: Path) -> None:
    (tmp_path / "issues.csv").write_text("")
    for task in ("detection", "reid"):
        for kind in KINDS.values():
            text = command(kind.name, tmp_path, {**NAMES, "task": task})
            assert text.startswith("python ") or kind.severity == "note", kind
            assert "{" not in text
            assert "/data/the people" not in text or "'/data/the people'" in text, "a space is quoted"


def test_a_short_check_names_the_whole_one(tmp_path: Path) -> None:
    text = command("duplicate box", tmp_path, NAMES)
    assert text == "python train.py mode=check model=yolo11n dataset=person_detection dataset.root='/data/the people'"


def test_unknown_problems_and_those_of_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no problem is called 'x'"):
        mend(tmp_path, "x", tmp_path)
    with pytest.raises(DataError, match="not mended by setting files aside"):
        mend(tmp_path, "rare class", tmp_path)


def test_the_command_line(
    check: Check, detection: Path, run_cli: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    images = detection / "images" / "train"
    copy_over(images / "003.jpg", images / "903.jpg")
    found = check("detection", detection)
    (found.folder / "config.yaml").write_text(yaml.safe_dump({"dataset": {"root": str(detection)}}))
    done = run_cli(str(found.folder), "duplicate image")
    assert done.returncode == 0, done.stderr
    assert "1 files moved to" in done.stdout
    assert not (images / "903.jpg").exists()
    missing = run_cli(str(detection), "duplicate image")
    assert missing.returncode == 2
    assert "mode=check" in missing.stderr


@pytest.fixture
def run_cli() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "watchme.data.check", *arguments]
        return subprocess.run(line, capture_output=True, text=True, timeout=120)

    return run
