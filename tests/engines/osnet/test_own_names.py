"""Images with names of their own train directly: patterns, folders of identities, tracklets, lists."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from osnet.whole_runs import Train
from watchme.config.validation import validate
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import FOLDERS
from watchme.run.runner import Refused, run


def people(world: DemoWorld, folder: str) -> Iterator[tuple[Path, str, str]]:
    """Image, identity and camera of the demo people, without distractors."""
    for path in sorted((world.reid / folder).iterdir()):
        pid, camera = re.findall(r"(-?\d+)_c(\d+)", path.name)[0]
        if int(pid) > 0:
            yield path, f"person {pid}", f"cam{camera}"


def arranged(world: DemoWorld, root: Path, name: str) -> Path:
    """The training people under names of one's own."""
    for number, (path, identity, camera) in enumerate(people(world, FOLDERS[0])):
        target = root / name.format(id=identity.replace(" ", "-"), camera=camera, n=number)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{id}_{camera}_{*}", "{id}_{camera}_{n:05d}.jpg"),
        (r"(?P<camera>cam\d+)/(?P<id>.+)@", "x/{camera}/{id}@{n}.jpg"),
    ],
)
def test_a_pattern(train: Train, small_world: DemoWorld, tmp_path: Path, pattern: str, name: str) -> None:
    root = arranged(small_world, tmp_path, name)
    done = train(f"dataset.root={root}", f"dataset.pattern='{pattern}'", "train.epochs=1")
    known = list(people(small_world, FOLDERS[0]))
    assert done.run["dataset"]["splits"]["market1501/train"] == {
        "images": len(known),
        "identities": len({identity for _, identity, _ in known}),
        "cameras": len({camera for _, _, camera in known}),
    }
    assert {"val/map", "train/loss"} <= done.summary.keys()
    assert any("not tested on" in text for text in done.run["fallbacks"])


def test_folders_of_identities(train: Train, small_world: DemoWorld, tmp_path: Path) -> None:
    """Without cameras: all images count as one camera's."""
    done = train(
        f"dataset.root={arranged(small_world, tmp_path, '{id}/{camera}{n}.jpg')}",
        "dataset.pattern='{id}/{*}'",
        "train.epochs=1",
    )
    assert "val_same_camera/map" in done.summary


def test_folders_of_tracklets(train: Train, small_world: DemoWorld, tmp_path: Path) -> None:
    done = train(
        f"dataset.root={arranged(small_world, tmp_path, '{id}/{camera}/{n}.jpg')}",
        "dataset.pattern='{id}/{tracklet}/{*}'",
        "dataset.tracklets=true",
        "dataset.seq_len=2",
        "train.epochs=1",
    )
    assert done.run["dataset"]["splits"]["market1501/train"]["tracklets"] == len(
        {(identity, camera) for _, identity, camera in people(small_world, FOLDERS[0])}
    )
    assert "val_same_camera/map" in done.summary


def test_a_list(train: Train, small_world: DemoWorld, tmp_path: Path) -> None:
    """With a test: the metrics are those of the folder that it lists."""
    with (tmp_path / "crops.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "id", "camera", "split"])
        for split, folder in zip(("train", "query", "gallery"), FOLDERS, strict=True):
            writer.writerows((path, identity, camera, split) for path, identity, camera in people(small_world, folder))
    done = train(f"dataset.root={tmp_path / 'crops.csv'}", "train.epochs=1", "dataset.val_identities=0")
    same = train(
        f"dataset.root={without_distractors(small_world, tmp_path)}", "train.epochs=1", "dataset.val_identities=0"
    )
    assert done.run["dataset"]["splits"] == same.run["dataset"]["splits"]
    assert done.summary["train/loss"] == pytest.approx(same.summary["train/loss"], rel=0.2)
    assert {"test/map", "test/rank1"} <= done.summary.keys()


def without_distractors(world: DemoWorld, root: Path) -> Path:
    for folder in FOLDERS:
        (root / "same" / folder).mkdir(parents=True)
        for path, _, _ in people(world, folder):
            shutil.copy(path, root / "same" / folder)
    return root / "same"


def test_a_check_finds_what_training_refuses(
    composed_config: Callable[..., DictConfig], small_world: DemoWorld, tmp_path: Path
) -> None:
    root = arranged(small_world, tmp_path / "d", "{id}_{camera}_{n}.jpg")
    shutil.copy(next(root.iterdir()), root / "strange.jpg")
    (root / "photo.heic").touch()
    composed = composed_config(
        "mode=check", "model=osnet", "dataset=market1501", f"dataset.root={root}", "dataset.pattern='{id}_{camera}_{*}'"
    )
    with pytest.raises(Refused, match=r"strange\.jpg"):
        run(validate(composed), composed, tmp_path / "run", [])
    found = json.loads((tmp_path / "run" / "run.json").read_text())["check"]["findings"]
    counts = {one["problem"]: one["count"] for one in found if one["severity"] != "note"}
    assert counts["name breaks the convention"] == counts["image not read"] == 1
