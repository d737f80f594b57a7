"""What model.weights stands for, its default by the data, and that refused configs and the demo use no network."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from omegaconf import DictConfig
from ultralytics.utils.checks import check_font

from watchme.core.errors import CheckpointError
from watchme.weights.initial import describe_weights, find_initial, random_weights
from weights.file_server import CONTENT, FileServer

PROJECT = Path(__file__).resolve().parents[2]
Composed = Callable[..., DictConfig]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "best.pt").write_bytes(CONTENT)
    (folder / "run.json").write_text(json.dumps({}))
    (folder / "config.yaml").write_text("model: {engine: yolo, name: yolo11n}")
    return folder


REAL = ("dataset=person_detection", "dataset.root=/data")
REID = ("model=osnet_ibn", "dataset=market1501", "dataset.root=/data")


@pytest.mark.parametrize(
    ("overrides", "weights"),
    [
        ((), None),
        (("model=osnet_ibn",), None),
        (REAL, "coco"),
        (REID, "imagenet"),
        (("dataset.root=/data",), "coco"),
        ((*REID, "dataset=several", "dataset.root=null"), "imagenet"),
        ((*REAL, "model.weights=null"), None),
        ((*REAL, "model.pretrained=false"), None),
        (("model.pretrained=true",), "coco"),
        ((*REID, "model.pretrained=false"), None),
        (("model=osnet", "model.pretrained=true"), "imagenet"),
        (("model=yolo11s", *REAL), "coco"),
        (("mode=search", "model=search"), None),
    ],
    ids=str,
)
def test_the_default_depends_on_the_data(
    overrides: tuple[str, ...], weights: str | None, composed_config: Composed
) -> None:
    assert composed_config(*overrides).model.weights == weights


def test_the_variable_of_the_backend_beats_the_default(
    composed_config: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLO_MODEL_PATH", "yolov11n.pt")
    assert composed_config(*REAL).model.weights == "yolov11n.pt"
    assert composed_config(*REAL, "model.weights=null").model.weights is None


def test_a_file_beats_a_release_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_initial("yolov11n.pt", None, "yolo", "yolo11n")
    assert found is not None
    assert found.published is not None
    (tmp_path / "yolo11n.pt").write_bytes(CONTENT)
    found = find_initial("yolov11n.pt", None, "yolo", "yolo11n")
    assert found is not None
    assert found.fetch() == tmp_path / "yolo11n.pt"


def test_a_folder_named_as_the_training_data_is_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "msmt17").mkdir()
    found = find_initial("msmt17", None, "osnet", "osnet_x0_25")
    assert found is not None
    assert found.published is not None


def test_a_run_folder_is_its_best_weights(run_folder: Path) -> None:
    found = find_initial(str(run_folder), None, "yolo", "yolo11n")
    assert found is not None
    assert found.fetch() == run_folder / "weights" / "best.pt"
    with pytest.raises(CheckpointError, match="a run of yolo11n, of the yolo engine"):
        find_initial(str(run_folder), None, "osnet", "osnet_x1_0")
    shutil.rmtree(run_folder / "weights")
    with pytest.raises(CheckpointError, match=r"has no weights/best\.pt"):
        find_initial(str(run_folder), None, "yolo", "yolo11n")


def test_an_address_is_fetched_and_described(server: FileServer) -> None:
    server.files["/best.pt"] = CONTENT
    found = find_initial(f"{server.address}/best.pt", None, "yolo", "yolo11n")
    assert found is not None
    record = found.record()
    assert record["source"] == f"{server.address}/best.pt"
    assert describe_weights(record).endswith(f"sha256 {record['sha256']}")


@pytest.mark.parametrize(
    ("weights", "pretrained", "engine", "name", "expected"),
    [
        ("msmt17", None, "osnet", "osnet_ibn_x1_0", r"imagenet, market1501.*Did you mean msmt17_combineall"),
        ("osnet_x1_0_msmt17", None, "osnet", "osnet_x0_25", "are weights of osnet_x1_0, and model.name is osnet_x0_25"),
        ("yolo11n.pt", False, "yolo", "yolo11n", "pretrained=false asks for random weights"),
        ("coco", None, "yolo", "yolov8n-p6", "expected published weights"),
        ("/nowhere/best.pt", None, "yolo", "yolo11n", "a run folder, a file, an address, or null"),
    ],
)
def test_refused(weights: str, pretrained: bool | None, engine: str, name: str, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        find_initial(weights, pretrained, engine, name)


def test_random_weights_are_announced_as_such() -> None:
    assert find_initial(None, True, "yolo", "yolo11n") is None
    text = describe_weights(random_weights("yolo"))
    assert text == "random (from scratch; model.weights=coco takes published ones)"


@pytest.mark.parametrize(
    "overrides",
    [
        ("dataset=person_detection", "dataset.root=/nowhere"),
        ("dataset=person_detection", "dataset.root=/nowhere", "model.weights=yolo11n.pt", "train.epochs=0"),
        ("model=osnet", "dataset=market1501", "dataset.root=/nowhere", "model.weights=market1501"),
        ("model.weights=https://example.org/best.pt", "train.epochs=0"),
    ],
)
def test_a_refused_config_opens_no_connection_and_leaves_no_folder(overrides: tuple[str, ...], tmp_path: Path) -> None:
    script = (
        "import runpy, socket\n"
        "def banned(*_): raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = socket.getaddrinfo = banned\n"
        "runpy.run_path('train.py', run_name='__main__')"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, *overrides, f"hydra.run.dir={tmp_path / 'run'}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 2, shown.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sweep", [(), ("-m", "optimizer.lr=0.01,0.02")], ids=["a run", "a sweep"])
def test_weights_that_cannot_be_fetched_leave_no_folder(sweep: tuple[str, ...], tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / split / "a.jpg").touch()
    run = tmp_path / "run"
    folders = (f"hydra.run.dir={run}", f"hydra.sweep.dir={run}")
    shown = subprocess.run(
        [sys.executable, "train.py", *sweep, "dataset=person_detection", f"dataset.root={tmp_path}", *folders],
        cwd=PROJECT,
        env={**os.environ, "WATCHME_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 1
    assert "could not be fetched" in shown.stderr
    assert not run.exists()


def test_a_demo_run_opens_no_connection(
    run_engine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def banned(*_: object) -> NoReturn:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", banned)
    monkeypatch.setattr(socket, "getaddrinfo", banned)
    check_font.__wrapped__.cache_clear()  # that an earlier test found no font
    world = ("dataset.demo.identities=12", "dataset.demo.cameras=3", "dataset.demo.walk_length=3")
    quick = ("train.epochs=1", "train.workers=0", "train.device=cpu")
    for name, more in (("yolo11n", ("evaluation.plots=false",)), ("osnet_x0_25", ("evaluation.visrank=0",))):
        (tmp_path / name).mkdir()
        done = run_engine(tmp_path / name, f"model={name}", *world, *quick, *more)
        assert done.result.epochs == 1
