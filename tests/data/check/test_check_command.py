"""mode=check as a command: which engine it goes to, its exit status, what it writes, and that torch is not needed."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from watchme.cli.default_model import default_model
from watchme.config.conf_dir import CONF
from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError
from watchme.data.demo import DemoWorld
from yolo.world import draw_dataset

Train = Callable[..., "subprocess.CompletedProcess[str]"]
REID = sorted(
    path.stem
    for path in (CONF / "dataset").glob("[!_]*.yaml")
    if "market1501" in path.read_text() or path.stem == "market1501"
)


@pytest.mark.parametrize("dataset", REID)
def test_every_reid_dataset_goes_to_osnet(dataset: str) -> None:
    assert default_model({"mode": "check", "dataset": dataset}, [CONF]) == "osnet"


def test_there_are_such_datasets() -> None:
    assert {"market1501", "demo_reid", "msmt17", "mars", "several"} <= set(REID)


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "check", "dataset": "person_detection"},
        {"mode": "check", "dataset": "demo_detection"},
        {"mode": "check"},
        {"mode": "check", "dataset": "market1501", "model": "osnet_ibn"},
        {"mode": "check", "dataset": "market1501", "experiment": "osnet_zoo"},
        {"dataset": "market1501", "sweeper": "osnet_tune"},
        {"mode": "check", "dataset": "no_such"},
    ],
)
def test_nothing_is_implied_where_a_model_fits_or_is_given(given: dict[str, str]) -> None:
    assert default_model(given, [CONF]) is None


def test_datasets_of_other_folders_count(tmp_path: Path) -> None:
    """With their bases written in a line, as CONTRIBUTING.md shows."""
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "shop.yaml").write_text("defaults: [market1501, _self_]\nname: shop\n")
    assert default_model({"mode": "check", "dataset": "shop"}, [CONF, tmp_path]) == "osnet"


def test_a_check_needs_no_weights(typed_config: Callable[..., RunConfig], small_world: DemoWorld) -> None:
    typed_config("mode=check", "model.weights=nowhere.pt")
    typed_config("mode=check", "model=osnet", f"dataset.root={small_world.reid}", "model.weights=nowhere.pth")


def test_a_missing_folder_is_named(typed_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match="no such folder: /nowhere"):
        typed_config("mode=check", "dataset=person_detection", "dataset.root=/nowhere")


@pytest.fixture(scope="module")
def good(train_py: Train, small_world: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("good") / "run"
    done = train_py("mode=check", "dataset=market1501", f"dataset.root={small_world.reid}", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


@pytest.fixture(scope="module")
def spoilt(
    train_py: Train, tmp_path_factory: pytest.TempPathFactory
) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    root = draw_dataset(tmp_path_factory.mktemp("spoilt") / "data", {"train": 4, "val": 4})
    shutil.copy(root / "images" / "train" / "001.jpg", root / "images" / "val" / "copy.jpg")
    (root / "labels" / "train" / "002.txt").write_text("0 0.5\n")
    folder = root.parent / "run"
    options = ("dataset=person_detection", f"dataset.root={root}", f"hydra.run.dir={folder}")
    return folder, train_py("mode=check", *options)


def test_a_clean_dataset_ends_well_without_torch(good: tuple[Path, str]) -> None:
    """`train_py` makes importing torch an error."""
    folder, output = good
    assert "Checked market1501: " in output
    assert ", 0 errors, 0 warnings, " in output
    assert "python train.py dataset=market1501" in output, "the training comes next"
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert (folder / "issues.csv").read_text().startswith("severity,problem,split,file,line,detail")
    assert not list(folder.glob(".check-*"))


def test_a_spoilt_dataset_ends_with_status_1(spoilt: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    folder, done = spoilt
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "This dataset would spoil a training:" in done.stderr
    assert "malformed label (1)" in done.stderr
    assert "%|" not in done.stderr, "no progress bar where there is no terminal"
    lines = done.stdout.splitlines()
    assert any(line.startswith("error     image in two splits") for line in lines)
    assert done.stdout.index("image in two splits") < done.stdout.index("no label file"), "the worst first"
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["status"] == "refused"
    assert manifest["check"]["errors"] == 2
    assert lines[-1].endswith("run"), "the last line is the run folder"
    assert any(line.strip().startswith("python train.py mode=check") for line in lines)


def test_report_has_findings_on_top_and_thumbnails(spoilt: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    page = (spoilt[0] / "report.html").read_text()
    assert "<h1>Check of person_detection</h1>" in page
    assert page.index("<h2>Findings</h2>") < page.index("<h2>Pictures</h2>")
    assert "image in two splits" in page[: page.index("<h2>Pictures</h2>")]
    assert '<figure class="sheet" tabindex="0"><img alt="offenders/malformed_label' in page
    assert page.index("offenders/image_in_two_splits") < page.index("check/box_sizes")
    assert "<h2>Curves</h2>" not in page


def test_report_of_a_clean_dataset_says_so(good: tuple[Path, str]) -> None:
    page = (good[0] / "report.html").read_text()
    assert "What the splits hold" in page
    assert "would spoil a training</div>" in page
    assert yaml.safe_load((good[0] / "config.yaml").read_text())["mode"] == "check"
