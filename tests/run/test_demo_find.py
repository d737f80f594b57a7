"""After both demo trainings one command that shows them at work is printed; after one of them, the other training."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from watchme.config.schema import RunConfig
from watchme.run.demo_find import demo_commands

Typed = Callable[..., RunConfig]


def finished(folder: Path, dataset: str, status: str = "finished", when: int = 1000) -> Path:
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "best.pt").touch()
    (folder / "run.json").write_text(json.dumps({"status": status, "dataset": {"name": dataset}}))
    task = {"demo_detection": "detection", "demo_reid": "reid"}.get(dataset, "detection")
    (folder / "config.yaml").write_text(json.dumps({"dataset": {"task": task}, "model": {"name": "some"}}))
    os.utime(folder / "run.json", (when, when))
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_first_of_the_two_names_the_other(typed_config: Typed) -> None:
    own = finished(Path("outputs/day/1-yolo").resolve(), "demo_detection")
    (command,) = demo_commands(typed_config(), own)
    assert command.startswith("python train.py model=osnet_x0_25  #")
    own = finished(Path("elsewhere/1-osnet").resolve(), "demo_reid")
    (command,) = demo_commands(typed_config("model=osnet_x0_25", "output_root=nowhere"), own)
    assert command.startswith("python train.py  #")


@pytest.mark.parametrize("place", ["outputs/2026-11-26/10-detector", "outputs/detector", "elsewhere/detector"])
def test_both_together_are_put_into_one_command_that_is_valid(place: str, typed_config: Typed) -> None:
    finished(Path(place).resolve(), "demo_detection")
    own = finished(Path("elsewhere/10-reid").resolve(), "demo_reid")
    (command,) = demo_commands(typed_config("model=osnet_x0_25"), own)
    words = shlex.split(command, comments=True)
    assert words[:2] == ["python", "train.py"]
    assert words[2:] == [
        "mode=find",
        "query=demo",
        "source=demo",
        f"detector={place}",
        "reid=elsewhere/10-reid",
    ]
    config = typed_config("model=predict", *words[2:])
    assert config.mode == "find"


def test_the_newest_finished_run_is_taken(typed_config: Typed) -> None:
    finished(Path("outputs/day/old").resolve(), "demo_detection", when=1000)
    finished(Path("outputs/day/new").resolve(), "demo_detection", when=2000)
    finished(Path("outputs/day/failed").resolve(), "demo_detection", "failed", when=3000)
    finished(Path("outputs/day/real").resolve(), "person_detection", when=4000)
    (command,) = demo_commands(
        typed_config("model=osnet_x0_25"), finished(Path("outputs/day/x").resolve(), "demo_reid")
    )
    assert " detector=outputs/day/new " in command


def test_other_data_and_other_modes_get_none(typed_config: Typed, tmp_path: Path) -> None:
    own = finished(tmp_path / "run", "people")
    assert demo_commands(typed_config("mode=check"), own) == []
