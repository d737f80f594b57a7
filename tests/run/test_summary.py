"""The closing lines of a run: commands that can be pasted as they are."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from watchme.config.schema import RunConfig
from watchme.core.interfaces import Result
from watchme.io.run_lookup import MANIFEST
from watchme.run.summary import next_commands


def test_next_commands_repeat_each_dataset_key_once_with_its_last_value(
    typed_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = typed_config("model=yolo11n", "dataset.demo.identities=12")
    given = ["dataset.image_size=320", "train.epochs=1", "dataset.image_size=640"]
    manifest = {"overrides": given, "choices": {"model": "yolo11n", "dataset": "demo_detection"}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    result = Result({}, 0.5, 1, 1, {"best": tmp_path / "weights" / "best.pt"})
    (fine_tune,) = [line for line in next_commands(config, tmp_path, result) if "fine-tune" in line]
    assert fine_tune.count("dataset.image_size=") == 1
    assert "dataset.image_size=640" in fine_tune


def test_an_evaluation_leads_to_the_export_and_to_other_runs(
    typed_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my best.pt").touch()
    config = typed_config("model=yolo11n", "mode=evaluate", "checkpoint='my best.pt'")
    folder = tmp_path / config.output_root / "eval"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    others = f"python -m watchme.report {config.output_root}  # beside other runs"
    exported = "python train.py mode=export checkpoint='my best.pt'  # for the backend"
    assert next_commands(config, folder, Result({}, 0.5)) == [exported, others]
    untrained = typed_config("model=osnet", "mode=evaluate", "checkpoint=random")
    assert next_commands(untrained, folder, Result({}, 0.5)) == [others], "there is no file to export"


def test_people_who_were_seen_can_be_looked_for(typed_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{}")
    models = [tmp_path / "detector.pt", tmp_path / "reid.pth"]
    for model in models:
        model.touch()
    options = ("model=predict", "mode=predict", "source=demo", f"detector={models[0]}")
    assert next_commands(typed_config(*options), tmp_path, Result({}, 0.5)) == []
    assert next_commands(typed_config(*options, f"reid={models[1]}"), tmp_path, Result({}, 0.5)) == [
        f"python train.py mode=find query=<picture> source=demo detector={models[0]} reid={models[1]} "
        f"index={tmp_path}  # at once"
    ]
