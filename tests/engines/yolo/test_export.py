"""mode=export of a detector: each format against the trained model, limits that refuse, files that are no YOLO."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from watchme.core import device as core_device
from watchme.core.errors import CheckpointError, ConfigError, ExportError
from watchme.core.interfaces import Result
from watchme.engines.yolo import export_formats, preparation
from watchme.engines.yolo.config import Config
from watchme.export import onnx_files
from yolo.world import Recorder, Trained

Tiny = Callable[..., Config]
PLACE = Path("handoff/src/infrastructure/yolo/projects/person_detection/weights")
QUICK = ("mode=export", "export.latency_batches=[]", "export.images=4")


def run_export(config: Config, folder: Path) -> tuple[Recorder, Result]:
    from watchme.engines.yolo.export import export

    folder.mkdir(exist_ok=True)
    recorder = Recorder(folder)
    return recorder, export(recorder.job(config))


@pytest.fixture(scope="module")
def exported(tiny: Tiny, learned: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, Result]:
    """Everything that can be asked for without further packages."""
    config = tiny(
        "mode=export",
        f"checkpoint={learned.folder}/weights/best.pt",
        "export.formats=[onnx,torchscript]",
        "export.fp16=true",
        "export.int8=true",
        "export.max_loss=1",
        "export.calibration_images=8",
        "export.latency_rounds=2",
        "export.threads=1",
    )
    return run_export(config, tmp_path_factory.mktemp("exported"))


def raw(found: Any) -> Any:
    return found[0] if isinstance(found, (list, tuple)) else found


def test_the_handoff_holds_all_that_was_asked_for(exported: tuple[Recorder, Result], learned: Trained) -> None:
    recorder, result = exported
    assert result.refused == ""
    names = {path.name for path in (recorder.folder / PLACE).iterdir()}
    files = {"best.pt", "best.onnx", "best.torchscript", "best_fp16.onnx", "best_int8.onnx"}
    assert names == files | {"MODEL_CARD.md", "preprocessing.json"}
    assert [path.name for path in recorder.folder.iterdir()] == ["handoff"]
    assert (recorder.folder / PLACE / "best.pt").read_bytes() == (learned.folder / "weights/best.pt").read_bytes()
    assert result.details["env"] == [
        "YOLO_PROJECT_PATH=src/infrastructure/yolo/projects",
        f"YOLO_MODEL_PATH={PLACE.relative_to('handoff')}/best.pt",
    ]


@pytest.mark.parametrize("size", [1, 3, 16])
def test_onnx_gives_what_the_trained_model_gives_at_any_batch_size(
    exported: tuple[Recorder, Result], learned: Trained, size: int
) -> None:
    """The reference is ultralytics' module itself, called on random images."""
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(str(learned.folder / "weights" / "best.pt"))
    batch = torch.rand(size, 3, 64, 64, generator=torch.Generator().manual_seed(size))
    with torch.no_grad():
        wanted = raw(model.float().eval()(batch)).numpy()
    session = onnxruntime.InferenceSession(str(exported[0].folder / PLACE / "best.onnx"))
    found = session.run(None, {"images": batch.numpy()})[0]
    assert found.shape == wanted.shape == (size, 5, 84)
    assert np.abs(found[:, 4:] - wanted[:, 4:]).max() < 1e-4
    assert np.abs(found[:, :4] - wanted[:, :4]).max() < 1e-2


def test_the_metric_is_that_of_the_training_and_the_loss_its_difference(
    exported: tuple[Recorder, Result], learned: Trained
) -> None:
    recorder, result = exported
    rows = {row[0]: row for row in recorder.tables()["export/metrics"].rows}
    assert list(rows) == ["best.pt", "fp16", "int8"]
    # Training validates on rectangles with a margin, the export on squares.
    assert result.metrics["val/map50_95"] == pytest.approx(learned.result.metrics["val/map50_95"], abs=0.03)
    assert result.metrics["val/map50"] > 0.5
    for name in ("fp16", "int8"):
        assert rows[name][3] == pytest.approx(rows["best.pt"][1] - rows[name][1])
        assert abs(rows[name][3]) < 0.15


def test_differences_and_latencies_are_shown(exported: tuple[Recorder, Result]) -> None:
    tables = exported[0].tables()
    rows = {row[0]: row for row in tables["export/formats"].rows}
    for name in ("best.pt", "onnx", "torchscript"):
        assert rows[name][3] <= 1e-4
        assert rows[name][5] <= 0.01
    assert rows["int8"][3] > rows["fp16"][3] > rows["onnx"][3]
    times = tables["export/latency"].rows
    assert {(row[0], row[1]) for row in times} == {(name, size) for name in rows for size in (1, 16)}
    assert all(0 < low <= median <= high for _, _, median, low, high, _, _ in times)


def test_the_backend_loads_best_pt_without_watchme(
    exported: tuple[Recorder, Result], drawn: Path, own_cache: Path, tmp_path: Path
) -> None:
    """`YOLO(path)`, class 0 is person, and a person is found where one was drawn."""
    image = sorted((drawn / "images" / "val").glob("*.jpg"))[1]
    script = f"""
import json, sys
sys.modules["watchme"] = None
from ultralytics import YOLO
model = YOLO({str((exported[0].folder / PLACE / "best.pt").resolve())!r})
boxes = model({str(image)!r}, imgsz=64, classes=[0], conf=0.01, verbose=False)[0].boxes
print(json.dumps([model.names[0], boxes.xyxy.tolist(), boxes.conf.tolist()]))
"""
    variables = {"YOLO_CONFIG_DIR": str(own_cache / "ultralytics"), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    name, boxes, confidences = json.loads(done.stdout.splitlines()[-1])
    assert name == "person"
    label = (drawn / "labels" / "val" / f"{image.stem}.txt").read_text().split()
    x, y, w, h = (float(value) * 64 for value in label[1:5])
    best = boxes[int(np.argmax(confidences))]
    assert np.abs(np.array(best) - [x - w / 2, y - h / 2, x + w / 2, y + h / 2]).max() < 8


def test_the_preprocessing_that_is_told_is_that_of_ultralytics_and_of_the_checks(
    exported: tuple[Recorder, Result], tiny: Tiny, learned: Trained, tmp_path: Path
) -> None:
    """Done by Pillow from preprocessing.json alone, on a coloured image that needs scaling and padding."""
    from ultralytics import YOLO

    from watchme.engines.yolo.export import YoloExporter

    recorder, _ = exported
    said = json.loads((recorder.folder / PLACE / "preprocessing.json").read_text())
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 60, (8, 16, 3), dtype=np.uint8) + np.array([180, 90, 0], np.uint8)
    image = Image.fromarray(colours).resize((128, 64), Image.Resampling.BICUBIC)
    box = said["steps"][0]["letterbox"]
    scale = min(box["height"] / image.height, box["width"] / image.width)
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    square = Image.new("RGB", (box["width"], box["height"]), (box["pad_value"],) * 3)
    square.paste(small, ((square.width - small.width) // 2, (square.height - small.height) // 2))
    batch = np.asarray(square, np.float32).transpose(2, 0, 1)[None] / said["steps"][1]["divide_by"]
    assert list(batch.shape[1:]) == said["input"]["shape"][1:]

    model = YOLO(str(learned.folder / "weights" / "best.pt"))
    bgr = np.asarray(image)[..., ::-1].copy()
    model.predict(bgr, imgsz=64, rect=False, verbose=False)
    theirs = model.predictor.preprocess([bgr]).numpy()
    image.save(tmp_path / "image.png")
    work = YoloExporter.__new__(YoloExporter)
    work.config = tiny("mode=export", f"checkpoint={learned.folder}/weights/best.pt")
    ours = work.pixels([tmp_path / "image.png"])
    assert np.abs(theirs - batch).mean() < 0.01
    assert np.abs(theirs - ours).max() < 1e-6


def test_a_format_that_differs_is_refused(tiny: Tiny, learned: Trained, tmp_path: Path) -> None:
    checkpoint = f"checkpoint={learned.folder}/weights/best.pt"
    config = tiny(*QUICK, checkpoint, "export.max_difference=1e-12")
    _, result = run_export(config, tmp_path)
    assert "best.onnx differs" in result.refused
    assert "export.max_difference" in result.refused
    assert not (tmp_path / "handoff").exists()
    assert (tmp_path / "handoff-refused" / "README.md").is_file()


def test_a_small_file_that_loses_too_much_is_refused(
    tiny: Tiny, learned: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    def blind(source: Path, target: Path) -> None:
        model = onnx.load(str(source))
        for each in model.graph.initializer:
            values = onnx.numpy_helper.to_array(each)
            if values.ndim == 4:
                each.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), each.name))
        onnx.save(model, str(target))

    monkeypatch.setattr(onnx_files, "to_fp16", blind)
    config = tiny(*QUICK, f"checkpoint={learned.folder}/weights/best.pt", "export.fp16=true")
    _, result = run_export(config, tmp_path)
    assert "best_fp16.onnx loses" in result.refused
    assert not (tmp_path / "handoff").exists()


def test_an_export_that_fails_leaves_nothing(
    tiny: Tiny, learned: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.engine.exporter import Exporter

    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'onnxslim'")

    monkeypatch.setattr(Exporter, "export_onnx", fail)
    with pytest.raises(ExportError, match=r"cannot write or run onnx here: No module named 'onnxslim'"):
        run_export(tiny(*QUICK, f"checkpoint={learned.folder}/weights/best.pt"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("truncated", "cannot be loaded as a YOLO model"),
        ("text", "cannot be loaded as a YOLO model"),
        ("osnet", "holds an OSNet.*model=osnet_ibn"),
        ("nan", "holds NaN or infinity in"),
    ],
)
def test_a_file_that_is_no_detector_is_refused(
    tiny: Tiny, learned: Trained, tmp_path: Path, kind: str, text: str
) -> None:
    good, path = learned.folder / "weights" / "best.pt", tmp_path / f"{kind}.pt"
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[:50000])
    elif kind == "text":
        path.write_text("not weights")
    elif kind == "osnet":
        torch.save({"state_dict": {"conv2.0.conv2c.0.conv1.weight": torch.zeros(1)}}, path)
    else:
        content = torch.load(good, weights_only=False)
        next(content["model" if content["ema"] is None else "ema"].parameters()).data[0] = torch.nan
        torch.save(content, path)
    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match=text) as error:
        run_export(tiny(*QUICK, f"checkpoint={path}"), run)
    assert str(path) in str(error.value)
    assert not list(run.iterdir())


def test_a_model_whose_class_0_is_not_person_is_said(
    tiny: Tiny, two_classes: Path, learned: Trained, tmp_path: Path
) -> None:
    content = torch.load(learned.folder / "weights" / "best.pt", weights_only=False)
    content["model" if content["ema"] is None else "ema"].names = {0: "car"}
    torch.save(content, tmp_path / "car.pt")
    asked = (f"checkpoint={tmp_path}/car.pt", f"dataset.root={two_classes}", "dataset.classes=[car]")
    recorder, _ = run_export(tiny(*QUICK, *asked, "export.formats=[]"), tmp_path / "run")
    assert any("class 0 of this model is car" in text for text in recorder.fallbacks)


def test_a_format_for_gpus_is_made_on_the_first_of_those_that_trained(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's config comes with its weights, and torch knows no device `0,1`; nor need the second one be there."""
    from watchme.engines.yolo.export import YoloExporter

    def choose(wanted: int | list[int], fallback: object = None) -> torch.device:
        return torch.device("cuda", wanted[0] if isinstance(wanted, list) else wanted)

    monkeypatch.setattr(core_device, "choose_device", choose)
    exporter = YoloExporter(Recorder(tmp_path).job(tiny()), tmp_path / "best.pt")
    exporter.config = tiny("train.device=[1,2]", "train.batch_size=8")
    assert exporter._device("engine") == "1"
    assert preparation.choose_device([1, 2], several=True) == "1,2"


def test_all_formats_of_ultralytics_are_known_by_its_names() -> None:
    from ultralytics.engine.exporter import export_formats as theirs

    table = theirs()
    listed = dict(zip(table["Argument"], table["Arguments"], strict=True))
    assert listed.keys() - {"-"} == export_formats.FORMATS.keys() | set(export_formats.CHIPS)
    for name, wanted in export_formats.FORMATS.items():
        assert wanted.dynamic <= ("dynamic" in listed[name]), name


@pytest.mark.parametrize(
    ("override", "key", "text"),
    [
        ("export.formats=[onxn]", "export.formats", "did you mean onnx"),
        ("export.formats=[paddle]", "export.formats", "pip install paddlepaddle x2paddle"),
        ("export.formats=[hailo]", "export.formats", "one chip"),
        ("export.formats=[onnx,onnx]", "export.formats", "twice"),
        ("export.int8=true export.formats=[torchscript]", "export.int8", "onnx"),
        ("export.place=/weights", "export.place", "below"),
        ("checkpoint=null", "checkpoint", "needs weights"),
        ("checkpoint=gone.pt", "checkpoint", "no such file"),
    ],
)
def test_a_wrong_config_is_told_at_once(
    tiny: Tiny, learned: Trained, override: str, key: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = export_formats.importlib.util.find_spec
    gone = ("paddle", "x2paddle")
    monkeypatch.setattr(export_formats.importlib.util, "find_spec", lambda name: None if name in gone else find(name))
    with pytest.raises(ConfigError) as error:
        tiny("mode=export", f"checkpoint={learned.folder}/weights/best.pt", *override.split())
    (problem,) = error.value.problems
    assert problem.key == key
    assert text in problem.expected
