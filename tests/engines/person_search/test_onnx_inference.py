"""Exported ONNX files as models: the same boxes and embeddings as with PyTorch; what is none is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError
from watchme.core.registry import load_model
from watchme.engines.osnet import onnx_inference
from watchme.engines.osnet.export_formats import load_trained, write_onnx
from watchme.engines.osnet.model import ReidNet
from watchme.engines.yolo import inference as yolo_inference
from watchme.engines.yolo.isolation import isolate

Pixels = NDArray[np.uint8]


def noise(count: int, height: int, width: int) -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`detector_file(dynamic=True)`: an untrained yolo11n as .onnx, beside its .pt, for 96 px."""
    isolate()
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    def make(*, dynamic: bool) -> Path:
        torch.manual_seed(0)
        model = YOLO("yolo11n.yaml")
        model.model = DetectionModel("yolo11n.yaml", nc=1, verbose=False)
        model.model.names = {0: "person"}
        for module in model.model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        path = tmp_path_factory.mktemp("yolo") / "untrained.pt"
        model.save(str(path))
        # A batch of one file is fixed unless it is dynamic.
        written = YOLO(str(path)).export(format="onnx", dynamic=dynamic, simplify=False, imgsz=96, verbose=False)
        return Path(written)

    return make


def osnet(folder: Path) -> Path:
    """An untrained osnet_x0_25."""
    weights = folder / "reid.pth"
    torch.save(ReidNet("osnet_x0_25", 3).backbone.state_dict(), weights)
    return weights


def small_onnx(folder: Path) -> Path:
    """The same as .onnx, for 64x32."""
    write_onnx(load_trained(osnet(folder), "osnet_x0_25"), folder / "model.onnx", (64, 32))
    return folder / "model.onnx"


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_detector_finds_the_same(dynamic: bool, detector_file: Callable[..., Path]) -> None:
    path = detector_file(dynamic=dynamic)
    model: Any = load_model("yolo", path, "cpu")
    assert model.assumed == (f"{path} is in no run folder: the file's own image size of 96 is used",)
    trained: Any = load_model("yolo", path.with_suffix(".pt"), "cpu")
    trained._arguments["imgsz"] = 96  # an untrained file names 640
    # Squares, as a file of one size pads everything to one.
    images = noise(3, 96, 96)
    for found, expected in zip(model.detect(images), trained.detect(images), strict=True):
        assert len(expected) > 20
        # Those of which non-maximum suppression is sure; the others hang on the last bit.
        np.testing.assert_allclose(found[:10], expected[:10], atol=0.02)


@pytest.mark.parametrize("normalize", [True, False, None])
def test_an_embedder_gives_the_same(normalize: bool | None, tmp_path: Path) -> None:
    """With the preprocessing.json of an export, or without one; crops of any shape, a grey one among them."""
    torch.manual_seed(0)
    weights, path = osnet(tmp_path), tmp_path / "model.onnx"
    write_onnx(load_trained(weights, "osnet_x0_25"), path, (256, 128))
    if normalize is not None:
        steps = [{"divide_by": 255}, *([{"subtract": [0.485, 0.456, 0.406]}] if normalize else [])]
        (tmp_path / "preprocessing.json").write_text(json.dumps({"steps": steps}))
    model: Any = load_model("osnet", path, "cpu")
    trained: Any = load_model("osnet", weights, "cpu")
    trained.normalize = normalize is not False
    crops = [*noise(2, 120, 50), *noise(1, 31, 77), np.full((40, 20, 3), 128, np.uint8)]
    # The limit of an export, `export.max_difference`.
    np.testing.assert_allclose(model.embed(crops), trained.embed(crops), atol=1e-5)
    assert model.embed([]).shape == (0, 512)
    assert len(model.assumed) == (1 if normalize is None else 0)


def test_a_gpu_that_onnxruntime_is_not_built_for_is_not_used_in_silence(
    detector_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_onnx(tmp_path)
    embedder = onnx_inference.load(path, torch.device("cuda", 1))
    assert f"{path} runs on the CPU, not on cuda:1" in embedder.assumed[0]
    assert len(embedder.embed(noise(2, 64, 32))) == 2
    monkeypatch.setattr(yolo_inference, "choose_device", lambda _: "0")
    detector: Any = load_model("yolo", detector_file(dynamic=True), "auto")
    assert "runs on the CPU, not on cuda:0" in detector.assumed[0]
    assert len(detector.detect(noise(1, 96, 96))) == 1


def test_a_gpu_that_onnxruntime_is_built_for_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_onnx(tmp_path)
    asked: list[Any] = []
    session = onnxruntime.InferenceSession
    used = ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def on_cpu(file: str, options: Any, providers: list[Any]) -> Any:
        asked.extend(providers)
        made = session(file, options, providers=["CPUExecutionProvider"])
        made.get_providers = lambda: used
        return made

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    embedder = onnx_inference.load(path, torch.device("cuda", 1))
    assert asked == [("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0}), "CPUExecutionProvider"]
    assert not [text for text in embedder.assumed if "CPU" in text]
    used.pop(0)  # where a library of CUDA's is missing, it takes the CPU without an error
    embedder = onnx_inference.load(path, torch.device("cuda", 1))
    assert "runs on the CPU, not on cuda:1" in embedder.assumed[0]


def test_a_file_of_the_other_kind_is_refused(detector_file: Callable[..., Path], tmp_path: Path) -> None:
    detector = detector_file(dynamic=True)
    with pytest.raises(CheckpointError, match=r"untrained\.onnx is no re-ID model: expected an input"):
        load_model("osnet", detector, "cpu")
    path = small_onnx(tmp_path)
    with pytest.raises(CheckpointError, match="was not exported from a detector"):
        load_model("yolo", path, "cpu")
    broken = tmp_path / "broken.onnx"
    shutil.copy(path, broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    for engine in ("yolo", "osnet"):
        with pytest.raises(CheckpointError, match=r"broken\.onnx cannot be"):
            load_model(engine, broken, "cpu")
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            load_model(engine, tmp_path / "gone.onnx", "cpu")
