"""A trained YOLO model as a person detector for other engines' modes, e.g. person search."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Detector
from watchme.core.process_state import torch_threads
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo import isolation
from watchme.engines.yolo.preparation import choose_device
from watchme.export import onnx_files
from watchme.io.run_lookup import config_of

# ultralytics' validation defaults; its predict mode would start at a confidence of 0.25.
_CONFIDENCE = 0.001
_IOU = 0.7
_MAX_DETECTIONS = 300
_PERSON = ("person", "pedestrian", "people")


def load(path: Path, device: str | int | list[int], *, trust: bool = False) -> Detector:
    """Load a detector.

    Args:
        path: A .pt file of ultralytics, or an ONNX file that it exported. In a run folder, image size, non-maximum
            suppression and lowest confidence are that run's; elsewhere the image size is the file's own, the rest
            ultralytics' validation defaults.
        device: As `train.device`.
        trust: Whether the file may run code of its own, see `model.trust`.

    Raises:
        CheckpointError: If it is not a detector of ultralytics.
        ConfigError: If the machine does not have the device.
    """
    isolation.isolate()
    isolation.allow_code_in_files(trust)
    from ultralytics import YOLO

    path = path.expanduser()
    if path.suffix not in (".pt", ".onnx"):
        raise CheckpointError(f"{path} is not a .pt or .onnx file of ultralytics")
    chosen = choose_device(device)
    if path.suffix == ".onnx":
        file = _read_onnx(path)
        device = f"cuda:{chosen}" if chosen.isdigit() else chosen
        if chosen != "mps" and onnx_files.gpu_of(device) is None:  # ultralytics itself knows Apple's
            file, chosen = replace(file, note=onnx_files.on_cpu(path, device)), "cpu"
        return YoloDetector(path, YOLO(str(path.resolve()), task="detect"), config_of(path), chosen, file)
    with weights.loading(path):
        model = YOLO(str(path.resolve()))
    weights.check_model(path, model.task, model.model)
    file = _File(model.names, model.overrides.get("imgsz"), one_at_a_time=False)
    return YoloDetector(path, model, config_of(path), chosen, file)


@dataclass(frozen=True)
class _File:
    """What a weights file says of itself."""

    names: Mapping[int, str]
    size: int | None
    one_at_a_time: bool
    note: str = ""


def _read_onnx(path: Path) -> _File:
    """The classes and the size in an ONNX file's metadata."""
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}")
    try:
        values, shape = onnx_files.read_metadata(path)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be loaded as a YOLO model: {error}") from None
    if values.get("task") != "detect" or "names" not in values:
        raise CheckpointError(f"{path} was not exported from a detector of ultralytics: its metadata names no classes")
    sides = ast.literal_eval(values.get("imgsz", "640"))
    names: Mapping[int, str] = ast.literal_eval(values["names"])
    return _File(names, max(sides) if isinstance(sides, list) else int(sides), one_at_a_time=isinstance(shape[0], int))


class YoloDetector:
    """Finds people as ultralytics' predict mode does; without the config of a run by ultralytics' defaults."""

    def __init__(self, path: Path, model: Any, config: Mapping[str, Any] | None, device: str, file: _File) -> None:
        self._model = model
        self._one_at_a_time = file.one_at_a_time
        assumed = [file.note] if file.note else []
        person, certain = _person_class(file.names)
        if not certain:
            assumed.append(f"{path} has no class person: class 0, {file.names[0]}, is assumed to be people")
        if config is not None:
            size = int(config["dataset"]["image_size"])
            evaluation: Mapping[str, Any] = config["evaluation"]
        else:
            size, evaluation = file.size or 640, {}
            assumed.append(
                f"{path} is in no run folder: the file's own image size of {size} is used"
                if file.size is not None
                else f"{path} is in no run folder and names no image size: {size} is used"
            )
        self.assumed = tuple(assumed)
        confidence = evaluation.get("confidence")
        self._arguments: dict[str, Any] = {
            "imgsz": size,
            "conf": _CONFIDENCE if confidence is None else float(confidence),
            "iou": float(evaluation.get("iou", _IOU)),
            "max_det": int(evaluation.get("max_detections", _MAX_DETECTIONS)),
            "augment": bool(evaluation.get("augment", False)),
            "classes": [person],
            "device": device,
            "verbose": False,
            "save": False,
        }

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Find people. See `interfaces.Detector`.

        Images of equal shape are batched, so that each is padded as it would be alone and its boxes do not depend on
        the others.
        """
        found: list[NDArray[np.float32]] = [np.zeros((0, 5), np.float32)] * len(images)
        shapes: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            shapes.setdefault(image.shape, []).append(number)
        with torch_threads():
            for numbers in shapes.values():
                # ultralytics expects arrays in OpenCV's BGR.
                arrays = [np.ascontiguousarray(images[number][:, :, ::-1]) for number in numbers]
                for number, result in zip(numbers, self._predicted(arrays), strict=True):
                    boxes = result.boxes
                    rows = np.column_stack([boxes.xyxy.cpu().numpy(), boxes.conf.cpu().numpy()])
                    order = np.argsort(-rows[:, 4], kind="stable")
                    found[number] = rows[order].astype(np.float32).reshape(-1, 5)
        return found

    def _predicted(self, arrays: list[NDArray[np.uint8]]) -> list[Any]:
        if self._one_at_a_time:
            return [self._model.predict([array], batch=1, **self._arguments)[0] for array in arrays]
        found: list[Any] = self._model.predict(arrays, batch=len(arrays), **self._arguments)
        return found


def _person_class(names: Mapping[int, str]) -> tuple[int, bool]:
    """The class of people, and whether it is certain: it has that name, or is the only class."""
    for wanted in _PERSON:
        for number, name in names.items():
            if name.lower() == wanted:
                return number, True
    return 0, len(names) == 1
