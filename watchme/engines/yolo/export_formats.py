"""The formats that ultralytics exports to, and what each needs, without importing ultralytics.

Nothing is installed while a job runs: validation names the missing packages.
"""

import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import dataclass

from watchme.config.suggestions import one_of


@dataclass(frozen=True)
class Format:
    """One format."""

    packages: tuple[tuple[str, str], ...] = ()  # (module that ultralytics imports, package that provides it)
    dynamic: bool = False  # whether one file takes batches of any size; else one image at a time
    gpu: bool = False  # whether it is built and run on a CUDA GPU only
    system: str = ""  # the only operating system that runs it; empty: any


_TENSORFLOW = (
    ("tensorflow", "tensorflow"),
    ("onnx2tf", "onnx2tf"),
    ("tf_keras", "tf_keras"),
    ("sng4onnx", "sng4onnx"),
    ("onnx_graphsurgeon", "onnx_graphsurgeon"),
    ("ai_edge_litert", "ai-edge-litert"),
)
FORMATS = {
    "torchscript": Format(dynamic=True),
    "onnx": Format((("onnx", "onnx"), ("onnxruntime", "onnxruntime")), dynamic=True),
    "openvino": Format((("openvino", "openvino"),), dynamic=True),
    "engine": Format((("tensorrt", "tensorrt"),), dynamic=True, gpu=True),
    "coreml": Format((("coremltools", "coremltools"),), system="Darwin"),
    "coreai": Format((("coreai_torch", "coreai-torch"),), system="Darwin"),
    "saved_model": Format(_TENSORFLOW),
    "pb": Format(_TENSORFLOW),
    "litert": Format((("litert_torch", "litert-torch"), ("ai_edge_litert", "ai-edge-litert"))),
    "paddle": Format((("paddle", "paddlepaddle"), ("x2paddle", "x2paddle"))),
    "mnn": Format((("MNN", "MNN"),), dynamic=True),
    "ncnn": Format((("ncnn", "ncnn"), ("pnnx", "pnnx"))),
    "executorch": Format((("executorch", "executorch"),)),
}
# Compiled for one chip each, which alone can run them, so they cannot be compared with the trained model here.
CHIPS = ("edgetpu", "imx", "rknn", "axelera", "deepx", "qnn", "hailo", "ascend", "xilinx")


def problem_of(name: str) -> str | None:
    """Why a format cannot be written here; None if it can."""
    if name in CHIPS:
        return (
            f"{name} is compiled for one chip, which alone can run it, so that it cannot be compared with the trained "
            f"model here. Write it there from the hand-off's best.pt: yolo export format={name} model=best.pt"
        )
    if name not in FORMATS:
        return one_of(name, FORMATS)
    wanted = FORMATS[name]
    missing = [package for module, package in wanted.packages if importlib.util.find_spec(module) is None]
    if missing:
        return f"{name} needs {', '.join(missing)}: pip install {' '.join(missing)}; nothing is installed automatically"
    if wanted.system and platform.system() != wanted.system:
        return f"{name} runs on {'macOS' if wanted.system == 'Darwin' else wanted.system} only; export it there"
    return None


def problems_of(names: list[str]) -> Iterator[tuple[str, str]]:
    """(name, reason) of each format that cannot be written."""
    for name in names:
        fault = problem_of(name)
        if fault is not None:
            yield name, fault
