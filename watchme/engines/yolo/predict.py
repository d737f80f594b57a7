"""A trained YOLO as a person detector for the modes of other engines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Detector
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo import isolation
from watchme.engines.yolo.train import choose_device
from watchme.io.run_lookup import config_of

# What ultralytics validates with where nothing else is said; its predict mode would start at 0.25.
_CONFIDENCE = 0.001
_IOU = 0.7
_MAX_DETECTIONS = 300
_PERSON = ("person", "pedestrian", "people")


def load(path: Path, device: str | int | list[int]) -> Detector:
    """Load a detector.

    Args:
        path: A .pt file of ultralytics. In a run folder it brings image size, non-maximum suppression and lowest
            confidence of that run along; elsewhere the image size is the file's own, the rest as ultralytics validates.
        device: As `train.device`.

    Raises:
        CheckpointError: If it is no detector of ultralytics.
        ConfigError: If the machine does not have the device.
    """
    isolation.isolate()
    from ultralytics import YOLO

    path = path.expanduser()
    if path.suffix != ".pt":
        raise CheckpointError(f"{path} is no .pt file, in which ultralytics keeps its models")
    config = config_of(path)
    with weights.loading(path):
        model = YOLO(str(path.resolve()))
    weights.check_task(path, model.task)
    return YoloDetector(path, model, config, choose_device(device).split(",")[0])


class YoloDetector:
    """Finds people with a model of ultralytics, as its predict mode does.

    Args:
        path: Where the weights lie, for messages.
        model: ultralytics' model.
        config: The config of the run that it comes from; None where there is none.
        device: In ultralytics' spelling.
    """

    def __init__(self, path: Path, model: Any, config: Mapping[str, Any] | None, device: str) -> None:
        self._model = model
        assumed = []
        person, sure = _person_class(model.names)
        if not sure:
            assumed.append(f"{path} has no class person: its class 0, {model.names[0]}, is taken for people")
        if config is not None:
            size = int(config["dataset"]["image_size"])
            evaluation: Mapping[str, Any] = config["evaluation"]
        else:
            size, evaluation = int(model.overrides.get("imgsz", 640)), {}
            assumed.append(
                f"{path} lies in no run folder: it detects at an image size of {size}, which the file names"
                if "imgsz" in model.overrides
                else f"{path} lies in no run folder and names no image size: it detects at {size}"
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
        """Find people. See `contract.Detector`.

        Images of one shape go through the network together, padded no further than each alone would be: what is found
        in one does not depend on the others.
        """
        found: list[NDArray[np.float32]] = [np.zeros((0, 5), np.float32)] * len(images)
        shapes: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            shapes.setdefault(image.shape, []).append(number)
        with isolation.threads_kept():
            for numbers in shapes.values():
                # ultralytics takes arrays for BGR, as OpenCV reads them.
                arrays = [np.ascontiguousarray(images[number][:, :, ::-1]) for number in numbers]
                results = self._model.predict(arrays, batch=len(arrays), **self._arguments)
                for number, result in zip(numbers, results, strict=True):
                    boxes = result.boxes
                    rows = np.column_stack([boxes.xyxy.cpu().numpy(), boxes.conf.cpu().numpy()])
                    order = np.argsort(-rows[:, 4], kind="stable")
                    found[number] = rows[order].astype(np.float32).reshape(-1, 5)
        return found


def _person_class(names: Mapping[int, str]) -> tuple[int, bool]:
    """The class of people, and whether that is sure: it is called so, or is the only one."""
    for wanted in _PERSON:
        for number, name in names.items():
            if name.lower() == wanted:
                return number, True
    return 0, len(names) == 1
