"""Evaluation of a checkpoint, against ultralytics' own val called directly."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from watchme.core.errors import CheckpointError, DataError
from watchme.core.interfaces import Result
from watchme.engines.yolo.evaluate import evaluate as evaluate_checkpoint
from yolo.conftest import Tiny
from yolo.world import Recorder, Trained, draw_dataset

Evaluate = Callable[..., tuple[Result, Recorder]]


@pytest.fixture
def evaluate(learned: Trained, tiny: Tiny, tmp_path: Path) -> Evaluate:
    """`evaluate(*overrides)`: evaluate the learned weights."""

    def run(*overrides: str) -> tuple[Result, Recorder]:
        recorder = Recorder(tmp_path / "run")
        recorder.folder.mkdir()
        best = f"checkpoint={learned.result.weights['best']}"
        return evaluate_checkpoint(recorder.job(tiny("mode=evaluate", best, *overrides))), recorder

    return run


def direct(learned: Trained, drawn: Path, folder: Path, **arguments: Any) -> Any:
    """What `YOLO(...).val(...)` finds on the user's own files."""
    from ultralytics import YOLO

    folder.mkdir()
    yaml = folder / "data.yaml"
    lines = [f"{split}: images/{split}" for split in ("train", "val", "test")]
    yaml.write_text("\n".join([f"path: {drawn}", *lines, "names: [person]"]))
    given: dict[str, Any] = {"imgsz": 64, "batch": 16, "device": "cpu", "plots": False, "verbose": False} | arguments
    found = YOLO(learned.result.weights["best"]).val(data=str(yaml), save_dir=str(folder / "val"), **given)
    for cache in (drawn / "labels").glob("*.cache"):
        cache.unlink()
    return found


@pytest.mark.parametrize(
    ("overrides", "arguments"),
    [
        (("evaluation.split=train",), {"split": "train"}),
        (("evaluation.split=val",), {"split": "val"}),
        ((), {"split": "test"}),
        (
            (
                "evaluation.split=val",
                "evaluation.confidence=0.05",
                "evaluation.iou=0.5",
                "evaluation.max_detections=3",
                "evaluation.augment=true",
                "evaluation.batch_size=4",
                "+model.args.agnostic_nms=true",
            ),
            {
                "split": "val",
                "conf": 0.05,
                "iou": 0.5,
                "max_det": 3,
                "augment": True,
                "batch": 4,
                "agnostic_nms": True,
            },
        ),
    ],
    ids=["train", "val", "test", "options"],
)
def test_numbers_are_those_of_ultralytics_val(
    overrides: tuple[str, ...],
    arguments: dict[str, Any],
    evaluate: Evaluate,
    learned: Trained,
    drawn: Path,
    tmp_path: Path,
) -> None:
    result, recorder = evaluate(*overrides)
    expected = direct(learned, drawn, tmp_path / "direct", **arguments)
    split, box = arguments["split"], expected.box
    assert dict(result.metrics) == {
        f"{split}/precision": box.mp,
        f"{split}/recall": box.mr,
        f"{split}/map50": box.map50,
        f"{split}/map50_95": box.map,
        f"{split}/f1": 2 * box.mp * box.mr / (box.mp + box.mr),
    }
    assert result.metrics[f"{split}/map50"] > 0.5, "a comparison of zeros would prove nothing"
    assert result.objective == box.map
    assert result.best_epoch is None
    assert set(recorder.manifest["dataset"]["splits"]) == {split}


def test_evaluation_after_training_is_that_of_the_checkpoint(learned: Trained, evaluate: Evaluate) -> None:
    result, _ = evaluate()
    for name, value in result.metrics.items():
        assert value == learned.result.metrics[name]


def test_table_by_class_and_speed(evaluate: Evaluate, learned: Trained) -> None:
    result, recorder = evaluate()
    table = recorder.tables()["test/per_class"]
    (row,) = table.rows
    found = dict(zip(table.columns, row, strict=True))
    assert (found["class"], found["images"], found["boxes"]) == ("person", 6, 6)
    for name in ("precision", "recall", "f1", "map50", "map50_95"):
        assert found[name] == pytest.approx(result.metrics[f"test/{name}"])
    details = result.details["test"]
    assert details["per_class"]["person"]["map50"] == found["map50"]
    speed = details["speed_ms_per_image"]
    assert set(speed) == {"preprocess_ms", "inference_ms", "loss_ms", "postprocess_ms"}
    assert speed["inference_ms"] > 0


def test_mistakes_are_counted_at_the_confidence_of_the_reported_precision_and_recall(
    evaluate: Evaluate, learned: Trained
) -> None:
    result, recorder = evaluate()
    tables = recorder.tables()
    ((confidence, found, missed, false),) = tables["test/counts"].rows
    assert confidence == result.details["test"]["confidence"]
    assert found + missed == 6
    # ultralytics interpolates between the confidences of two detections, at most one detection apart.
    assert abs(found - 6 * result.metrics["test/recall"]) < 1
    assert abs(found - (found + false) * result.metrics["test/precision"]) < 1
    columns = tables["test/by_group"].columns
    sizes = [dict(zip(columns, row, strict=True)) for row in tables["test/by_group"].rows if row[0] == "size"]
    assert sum(row["people"] for row in sizes) == 6
    assert sum(row["found"] for row in sizes) == found
    assert sum(row["false"] for row in sizes) == false
    assert not any("confusion" in name for name in learned.recorder.pictures()), "one class: the counts say it all"


def test_confusion_matrix_of_one_class_holds_the_counts(learned: Trained, drawn: Path, tmp_path: Path) -> None:
    from ultralytics import YOLO

    from watchme.engines.yolo.error_analysis import totals
    from watchme.engines.yolo.validator import validate

    (tmp_path / "data.yaml").write_text(f"path: {drawn}\nval: images/test\ntrain: images/test\nnames: [person]")
    model = YOLO(learned.result.weights["best"])
    metrics, seen = validate(model, learned.config, tmp_path / "data.yaml", "val", "cpu", tmp_path / "val")
    for cache in (drawn / "labels").glob("*.cache"):
        cache.unlink()
    found, missed, false = totals(seen.images, seen.confidence)
    assert metrics.confusion_matrix.matrix.tolist() == [[found, false], [missed, 0]]


def test_pictures_of_a_training(learned: Trained) -> None:
    found = learned.recorder.pictures()
    kinds = "pr_curve f1_curve precision_curve recall_curve labels predictions detections"
    assert set(found) == {f"{split}/{kind}" for split in ("val", "test") for kind in kinds.split()}
    for pictures in found.values():
        for picture in pictures:
            assert picture.path.is_relative_to(learned.folder)
            with Image.open(picture.path) as image:
                assert image.format in ("JPEG", "PNG")


def test_example_boxes_lie_on_the_drawn_people(evaluate: Evaluate, drawn: Path) -> None:
    """Pictures of the images themselves, with boxes in their pixels."""
    _, recorder = evaluate("evaluation.examples=3")
    pictures = recorder.pictures()["test/detections"]
    assert len(pictures) == 3
    found = 0
    for picture in pictures:
        source = drawn / "images" / "test" / picture.path.name.split("-", 1)[1]
        assert picture.path.read_bytes() == source.read_bytes()
        _, x, y, w, h = map(float, (drawn / "labels" / "test" / f"{source.stem}.txt").read_text().split())
        predicted = [box for box in picture.boxes if not math.isnan(box[4])]
        if not predicted:
            continue
        found += 1
        best = max(predicted, key=lambda box: box[4])
        assert best[5].removeprefix("false ") == "person"
        assert best[:4] == pytest.approx(
            [(x - w / 2) * 64, (y - h / 2) * 64, (x + w / 2) * 64, (y + h / 2) * 64], abs=8
        )
    assert found >= 2


def test_examples_of_turned_photographs_are_shown_upright(evaluate: Evaluate, tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "turned", {"test": 2}, yaml="")
    path = root / "images" / "test" / "001.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6  # turn by 90 degrees to see it upright
        image.resize((64, 32)).save(path, exif=exif)
    _, recorder = evaluate(f"dataset.root={root}", "evaluation.examples=1")
    (picture,) = recorder.pictures()["test/detections"]
    with Image.open(picture.path) as image:
        assert image.size == (32, 64)


def test_no_pictures_where_none_are_wanted(evaluate: Evaluate) -> None:
    _, recorder = evaluate()
    assert recorder.pictures() == {}


def test_evaluation_of_a_dataset_with_that_split_alone(evaluate: Evaluate, tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "alone", {"test": 4}, yaml="", seed=3)
    result, _ = evaluate(f"dataset.root={root}")
    assert not math.isnan(result.metrics["test/map50"])


def test_split_without_boxes_is_an_error(evaluate: Evaluate, tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "none", {"test": 1}, yaml="")
    with pytest.raises(DataError, match="test split has no boxes"):
        evaluate(f"dataset.root={root}")


def test_checkpoint_with_fewer_classes_is_an_error(evaluate: Evaluate, two_classes: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has 1 classes \(person\), the dataset has 2 \(car, person\)"):
        evaluate(f"dataset.root={two_classes}")


def test_differing_names_are_announced(evaluate: Evaluate, two_classes: Path) -> None:
    _, recorder = evaluate(f"dataset.root={two_classes}", "dataset.classes=[car]")
    assert "classes are matched by number, and in best.pt car is person" in recorder.fallbacks[0]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 truncated"])
def test_damaged_checkpoint_is_an_error_and_stays(content: bytes, tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "yolo11n.pt"  # a name that ultralytics would download again
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"yolo11n\.pt cannot be loaded as a YOLO model"):
        evaluate_checkpoint(Recorder(tmp_path).job(tiny("mode=evaluate", f"checkpoint={path}")))
    assert path.read_bytes() == content


def test_checkpoint_of_another_library_is_an_error(tiny: Tiny, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "other.pt"
    torch.save({"state_dict": {"w": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="cannot be loaded as a YOLO model"):
        evaluate_checkpoint(Recorder(tmp_path).job(tiny("mode=evaluate", f"checkpoint={path}")))


def test_model_of_another_task_is_an_error(tiny: Tiny, tmp_path: Path) -> None:
    from ultralytics import YOLO

    path = tmp_path / "segment.pt"
    YOLO("yolo11n-seg.yaml").save(path)
    with pytest.raises(CheckpointError, match="holds a model for the task segment"):
        evaluate_checkpoint(Recorder(tmp_path).job(tiny("mode=evaluate", f"checkpoint={path}")))


def test_an_evaluation_says_that_no_loaders_are_started(evaluate: Evaluate) -> None:
    _, recorder = evaluate("train.workers=2")
    assert "train.workers=2 is 0 here: ultralytics has no loaders on cpu" in recorder.fallbacks


def test_a_model_that_diverged_is_no_model_that_finds_nothing(tiny: Tiny, tmp_path: Path) -> None:
    import torch
    from ultralytics import YOLO

    model = YOLO("yolo11n.yaml")
    with torch.no_grad():
        next(model.model.parameters()).fill_(float("nan"))
    path = tmp_path / "nan.pt"
    model.save(path)
    with pytest.raises(CheckpointError, match=r"nan.pt holds NaN or infinity in model.0.conv.weight"):
        evaluate_checkpoint(Recorder(tmp_path).job(tiny("mode=evaluate", f"checkpoint={path}")))
