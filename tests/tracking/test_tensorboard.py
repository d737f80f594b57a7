"""TensorBoard event files, read back with its own reader and compared with metrics.jsonl."""

import math
from pathlib import Path
from typing import Any

import pytest

from tracking.made_up import CURVE, Tracked


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
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
    assert start.hparams["optimizer.lr"].number_value == 0.001
    assert start.hparams["optimizer.name"].string_value == "adamw"
    assert start.hparams["train.deterministic"].bool_value
    assert start.group_name == f"{whole_run.folder.parent.name}/run"
    # TensorBoard would take the columns and filters of the first run's summary for all runs.
    assert "_hparams_/experiment" not in parsed
    assert parsed["_hparams_/session_end_info"].session_end_info.status == 1  # STATUS_SUCCESS


def test_text_tab_holds_command_and_overrides(events: Any) -> None:
    (text,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors("run"))
    assert "    optimizer.lr=0.001\n" in text
    assert "    train.seed: 7\n" in text


def test_resumed_run_draws_no_curve_twice(resumed_run: Tracked) -> None:
    events = read(resumed_run.folder)
    assert [line["epoch"] for line in resumed_run.lines()] == [1, 2, 3, 4, 5]
    assert_equal_to_metrics_jsonl(events, resumed_run)
    defined = [value for value in CURVE if not math.isnan(value)]
    assert len(events.Scalars("val/map50")) == len(defined)
