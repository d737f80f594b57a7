"""TensorBoard event files, read back with its own reader and compared with metrics.jsonl."""

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.util import tensor_util

from tracking.made_up import CURVE, Tracked
from watchme.tracking.tensorboard import hyperparameters


def read(folder: Path, place: str = "tensorboard") -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / place), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


@pytest.fixture(scope="module")
def events(whole_run: Tracked) -> Any:
    return read(whole_run.folder)


def assert_equal_to_metrics_jsonl(events: Any, run: Tracked) -> None:
    lines = run.lines()
    names = {name for line in lines for name in line} - {"epoch", "time", "is_best"}
    assert names <= set(events.Tags()["scalars"])
    for name in names:
        expected = [(line["epoch"], line[name]) for line in lines if line[name] is not None]
        found = [(point.step, point.value) for point in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in expected], name
        # Event files hold single precision.
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6), name


def test_scalars_equal_metrics_jsonl(events: Any, whole_run: Tracked) -> None:
    assert_equal_to_metrics_jsonl(events, whole_run)
    assert "train/lr" in events.Tags()["scalars"]


def test_final_metrics_stand_apart_from_the_curves(events: Any) -> None:
    assert events.Scalars("final/test/map50")[0].value == 0.5
    assert events.Scalars("final/val/map50")[0].value == pytest.approx(0.57)


def test_pictures_by_epoch(events: Any) -> None:
    assert [image.step for image in events.Images("val/predictions")] == [1, 2, 3, 4, 5]
    assert len(events.Images("val/predictions/1")) == len(CURVE)
    assert events.Images("test/ranked")[0].step == len(CURVE)


def test_hyperparameters_with_the_final_metric(events: Any, whole_run: Tracked) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = events.PluginTagToContent("hparams")
    parsed = {tag: HParamsPluginData.FromString(content) for tag, content in data.items()}
    start = parsed["_hparams_/session_start_info"].session_start_info
    assert start.group_name == f"run {whole_run.folder.parent.name}"
    # TensorBoard would take the columns and filters of the first run's summary for all runs.
    assert "_hparams_/experiment" not in parsed
    assert parsed["_hparams_/session_end_info"].session_end_info.status == 1  # STATUS_SUCCESS


def test_runs_are_told_apart_by_eight_settings_and_what_was_overridden() -> None:
    config = {
        "model": {"name": "yolo11n", "family": {"lr": 1}},
        "dataset": {"name": "shop", "root": None, "image_size": 640},
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
        "scheduler": {"name": "cosine"},
        "train": {"batch_size": 16, "epochs": 3, "seed": 7, "deterministic": True, "workers": 2},
    }
    manifest = {
        "choices": {"augmentation": "yolo_light", "scheduler": "cosine_warm", "model": "yolo11n"},
        "overrides": ["model=yolo11n", "optimizer.lr=0.01", "scheduler=cosine_warm", "+train.deterministic=true"],
    }
    named = {"model": "yolo11n", "dataset": "shop", "optimizer": "sgd", "lr": 0.01, "batch_size": 16, "epochs": 3}
    named |= {"seed": 7, "augmentation": "yolo_light"}
    found = hyperparameters(config, manifest)
    assert found == {**named, "scheduler": "cosine_warm", "train.deterministic": True}
    assert list(found)[:8] == list(named)


def test_text_tab_holds_command_overrides_and_config(events: Any, whole_run: Tracked) -> None:
    (text,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors("run"))
    assert "| optimizer.lr | 0.001 |\n" in text
    config = textwrap.dedent(text.partition("\nConfig\n")[2])
    assert yaml.safe_load(config) == yaml.safe_load((whole_run.folder / "config.yaml").read_text())


def test_points_within_epochs_are_events_of_their_own(whole_run: Tracked, resumed_run: Tracked) -> None:
    steps = read(whole_run.folder, "tensorboard/steps")
    assert [point.step for point in steps.Scalars("step/loss")] == list(range(5, 51, 5))
    assert steps.Scalars("step/loss")[0].value == pytest.approx(4.0)
    again = read(resumed_run.folder, "tensorboard/steps")
    assert [point.step for point in again.Scalars("step/loss")] == list(range(5, 51, 5)), "none twice"


def test_pr_curves_by_confidence(events: Any) -> None:
    (event,) = events.Tensors("test/pr/person")
    found, false, unused, missed, precision, recall = tensor_util.make_ndarray(event.tensor_proto).tolist()
    assert recall == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert precision == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert found == pytest.approx([20 * value for value in recall])
    assert [a + b for a, b in zip(found, missed, strict=True)] == pytest.approx([20.0] * 6)
    shares = [a / (a + b) for a, b in zip(found, false, strict=True)]
    assert shares == pytest.approx(precision)
    assert unused == [0.0] * 6
    assert events.PluginTagToContent("pr_curves").keys() == {"test/pr/person"}


def test_projector_has_each_point_with_its_picture(whole_run: Tracked) -> None:
    folder = whole_run.folder / "tensorboard"
    config = ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (entry,) = config.embeddings
    assert entry.tensor_name == "test/embedding"
    vectors = [[float(value) for value in line.split("\t")] for line in read_lines(folder / entry.tensor_path)]
    assert vectors == [[1.0, 0.0], [0.0, 1.0], [0.5, -0.25]]
    assert read_lines(folder / entry.metadata_path) == ["identity\tcamera", "7\t1", "7\t2", "9\t1"]
    width, height = entry.sprite.single_image_dim
    with Image.open(folder / entry.sprite.image_path) as sprite:
        assert sprite.size == (2 * width, 2 * height), "a square grid"
        pixels = np.asarray(sprite)
    shades = [int(pixels[y * height + 40, x * width + 20, 0]) for x, y in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert shades == pytest.approx([50, 150, 0, 0], abs=4), "the third file is missing: black"


def read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_resumed_run_draws_no_curve_twice(resumed_run: Tracked) -> None:
    events = read(resumed_run.folder)
    assert [line["epoch"] for line in resumed_run.lines()] == [1, 2, 3, 4, 5]
    assert_equal_to_metrics_jsonl(events, resumed_run)
    defined = [value for value in CURVE if not math.isnan(value)]
    assert len(events.Scalars("val/map50")) == len(defined)
