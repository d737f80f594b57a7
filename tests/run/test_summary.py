"""The closing lines of a run: commands that can be pasted as they are."""

import json
from collections.abc import Callable
from pathlib import Path

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
