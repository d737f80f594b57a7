"""The short form before each training: it warns and records, refuses nothing that trained before, and is quick."""

import dataclasses
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from watchme.config.schema import RunConfig
from watchme.core.interfaces import Job
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import Crop, Splits
from watchme.engines.osnet import check as osnet_check
from watchme.engines.osnet.config import Config as OsnetConfig
from watchme.engines.osnet.data import datasets as reid_datasets
from watchme.engines.yolo import check as yolo_check
from watchme.engines.yolo import checked_copy as data
from watchme.engines.yolo.config import Config as YoloConfig
from watchme.engines.yolo.data_yaml import read_layout


def job_of(config: RunConfig, folder: Path) -> tuple[Job, dict[str, Any]]:
    manifest: dict[str, Any] = {}
    folder.mkdir(exist_ok=True)
    return Job(config, folder, record=manifest.__setitem__), manifest


def kinds(manifest: dict[str, Any]) -> dict[str, int]:
    return {one["problem"]: one["count"] for one in manifest["check"]["findings"]}


def yolo_briefly(config: RunConfig, root: Path, folder: Path) -> dict[str, Any]:
    typed = cast(YoloConfig, config)
    job, manifest = job_of(
        dataclasses.replace(typed, dataset=dataclasses.replace(typed.dataset, root=str(root))), folder
    )
    layout = read_layout(root)
    yaml, _ = data.prepare(layout, None)
    yolo_check.check_briefly(job, layout, yaml.parent)
    return manifest


def test_detection(
    configs: dict[str, RunConfig], detection: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (detection / "labels" / "train" / "001.txt").write_text("0 0.95 0.5 0.3 0.2\n0 0.1 0.1 0 0.1\n")
    with caplog.at_level(logging.WARNING):
        manifest = yolo_briefly(configs["detection"], detection, tmp_path / "run")
    assert manifest["check"]["short"] is True
    assert kinds(manifest) == {"box outside the frame": 1, "box of no area": 1, "no label file": 4}
    assert [record.message.split(":")[1].strip() for record in caplog.records] == [
        "box outside the frame (1)",
        "box of no area (1)",
    ]
    assert not list((tmp_path / "run").iterdir())


def test_detection_opens_no_image_and_reads_labels_once(
    configs: dict[str, RunConfig], detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = yolo_briefly(configs["detection"], detection, tmp_path / "one")
    monkeypatch.setattr(yolo_check, "check_labels", None)
    assert yolo_briefly(configs["detection"], detection, tmp_path / "two") == first
    monkeypatch.undo()
    monkeypatch.setattr("watchme.data.check.scan.probe_image", None)
    (detection / "labels" / "train" / "001.txt").write_text("0 0.95 0.5 0.3 0.2\n")
    assert "box outside the frame" in kinds(yolo_briefly(configs["detection"], detection, tmp_path / "three"))


def test_detection_lists_that_name_an_image_twice(
    configs: dict[str, RunConfig], detection: Path, tmp_path: Path
) -> None:
    for split, numbers in (("train", (1, 2, 3)), ("val", (3, 5))):
        lines = [f"./images/train/{number:03d}.jpg" for number in numbers]
        (detection / f"{split}.txt").write_text("\n".join(lines))
    (detection / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [person]\n")
    found = kinds(yolo_briefly(configs["detection"], detection, tmp_path / "run"))
    assert found == {"image in two splits": 1, "no label file": 1}  # that of images/test/000.jpg


def osnet_briefly(config: RunConfig, datasets: reid_datasets.Datasets, folder: Path) -> dict[str, Any]:
    job, manifest = job_of(config, folder)
    osnet_check.check_briefly(job, datasets)
    return manifest


def test_reid(configs: dict[str, RunConfig], reid: Path, tmp_path: Path) -> None:
    config = cast(OsnetConfig, configs["reid"])
    first = sorted((reid / "bounding_box_train").iterdir())[0]
    shutil.copy(first, reid / "bounding_box_test" / first.name)
    shutil.copy(first, reid / "bounding_box_train" / "0901_c1s1_000001_00.jpg")
    first.write_bytes(b"not decoded")
    datasets = reid_datasets.read_datasets(config.dataset, reid)
    assert kinds(osnet_briefly(config, datasets, tmp_path / "run")) == {
        "identity in train and test": 1,
        "identity with one image": 1,
    }


def test_images_that_are_lost_are_warnings(configs: dict[str, RunConfig], reid: Path, tmp_path: Path) -> None:
    config = cast(OsnetConfig, configs["reid"])
    first = sorted((reid / "bounding_box_train").iterdir())[0]
    shutil.copy(first, reid / "bounding_box_train" / "0000_c1s1_000001_00.jpg")
    (reid / "query" / "0001_c1s1_000001_00.heic").touch()
    found = kinds(osnet_briefly(config, reid_datasets.read_datasets(config.dataset, reid), tmp_path / "run"))
    assert found == {"identity left out": 1, "image not read": 1}


def test_reid_clean(configs: dict[str, RunConfig], small_world: DemoWorld, tmp_path: Path) -> None:
    config = cast(OsnetConfig, configs["reid"])
    datasets = reid_datasets.read_datasets(config.dataset, small_world.reid)
    assert osnet_briefly(config, datasets, tmp_path / "run")["check"]["errors"] == 0
    assert osnet_briefly(config, datasets, tmp_path / "run")["check"]["warnings"] == 0


def test_reid_of_market1501s_size_takes_seconds(configs: dict[str, RunConfig], tmp_path: Path) -> None:
    def crops(people: range, folder: str) -> list[Crop]:
        return [
            Crop(Path(f"/d/{folder}/{person:04d}_c{place % 6 + 1}s1_{place:06d}_00.jpg"), person, place % 6)
            for person in people
            for place in range(20)
        ]

    splits = Splits(
        Path("/d"),
        crops(range(1, 751), "train"),
        crops(range(751, 1501), "query")[::6],
        crops(range(751, 1501), "test"),
    )
    start = time.process_time()  # a busy machine is slower by the clock
    manifest = osnet_briefly(
        configs["reid"], reid_datasets.Datasets({"market1501": splits}, {"market1501": splits}), tmp_path / "run"
    )
    assert time.process_time() - start < 5
    assert kinds(manifest) == {}


@pytest.mark.parametrize("engine", ["yolo", "osnet"])
def test_it_can_be_switched_off(engine: str, typed_config: Callable[..., RunConfig]) -> None:
    assert typed_config("check.before_training=false", *(["model=osnet"] if engine == "osnet" else [])).check == (
        type(typed_config().check)(before_training=False)
    )


@pytest.mark.parametrize("engine", ["yolo", "osnet"])
def test_it_imports_nothing_heavy(engine: str) -> None:
    """Every training imports it; ultralytics must be set up before matplotlib is imported."""
    code = (
        f"import sys, watchme.engines.{engine}.check; "
        "print(*{'torch', 'matplotlib', 'torchreid', 'ultralytics'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
