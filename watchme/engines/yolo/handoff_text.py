"""README and preprocessing.json of an exported detector, for the backend's developers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from watchme.engines.yolo.config import Config
from watchme.export.handoff_text import HandoffText, input_entry

# The backend detects class 0, and expects it to be this one.
BACKEND_CLASS = "person"


@dataclass
class YoloHandoffText(HandoffText):
    """The texts of one export of a detector."""

    config: Config
    names: Mapping[int, str]
    checkpoint: Path
    file_size: int  # the file's image size, at which `YOLO(path)` detects where no other is given

    env_file = ".env.yolo"

    @property
    def size(self) -> int:
        """Side of the square that the network sees."""
        return self.config.dataset.image_size

    def env(self) -> dict[str, str]:
        place = PurePosixPath(self.config.export.place)
        # ultralytics' layout is <project>/<name>/weights/best.pt.
        project = place.parent.parent if place.name == "weights" and len(place.parts) > 2 else place
        return {"YOLO_PROJECT_PATH": project.as_posix(), "YOLO_MODEL_PATH": (place / "best.pt").as_posix()}

    def preprocessing(self) -> dict[str, Any]:
        evaluation = self.config.evaluation
        return {
            "task": "detection",
            "architecture": self.config.model.name,
            "classes": {str(number): name for number, name in self.names.items()},
            "input": input_entry("images", self.size, self.size),
            "steps": [
                {
                    "letterbox": {
                        "height": self.size,
                        "width": self.size,
                        "keep_aspect_ratio": True,
                        "interpolation": "bilinear",
                        "pad": "both sides",
                        "pad_value": 114,
                    }
                },
                {"divide_by": 255},
                {"order": "height, width, colour to colour, height, width"},
            ],
            "output": {
                "shape": ["batch", 4 + len(self.names), "boxes"],
                "rows": ["center x", "center y", "width", "height", *self.names.values()],
                "unit": "pixels of the letterboxed input; then a confidence for each class",
                "then": {"non_maximum_suppression_iou": evaluation.iou, "max_detections": evaluation.max_detections},
            },
        }

    def mind(self) -> list[str]:
        return [
            "`YOLO(path)` does all of *Preprocessing* and the suppression, for `best.pt` and every other format here.",
            "Choose a new confidence threshold: confidences of other weights are not comparable.",
        ]

    def differences(self) -> list[str]:
        found = []
        first = self.names.get(0, "nothing")
        if first != BACKEND_CLASS:
            found.append(
                f"The backend detects class 0 as people, and class 0 of this model is {first}. Train with "
                "dataset.classes=[person,...], or change the backend."
            )
        if self.size != self.file_size:
            found.append(
                f"best.pt holds an image size of {self.file_size} px, at which the backend would detect; it was "
                f"checked at {self.size} px (dataset.image_size). Let the backend pass imgsz={self.size}."
            )
        if self.config.evaluation.augment:
            found.append(
                "The run was evaluated with test-time augmentation (evaluation.augment); the backend detects without, "
                "as do the numbers here."
            )
        return found

    def sections(self) -> dict[str, str]:
        place = PurePosixPath(self.config.export.place)
        return {
            "Loading": f"""
    from ultralytics import YOLO
    boxes = YOLO("{place / "best.pt"}")(image, imgsz={self.size}, classes=[0])[0].boxes

Class 0 is {self.names.get(0, "nothing")}. The other formats load the same way, by their paths, with `task="detect"`.
`best.pt` needs ultralytics alone, not watchme.
""",
            "Preprocessing": f"""
For machines: `preprocessing.json`. In words, for those who run the ONNX file themselves: take the image as RGB, scale
it until it fits {self.size}x{self.size} (bilinear, aspect ratio kept), pad both sides with grey 114, divide by 255,
colours first. The output has a column for each box: center x, center y, width, height in pixels of that square, then a
confidence for each class; suppress boxes that overlap by an IoU above {self.config.evaluation.iou:g}.
""",
        }

    def checked_on(self) -> str:
        return (
            f"From `{self.checkpoint.name}`, checked on the validation split, on squares (training validates on "
            "rectangles, which gives slightly different metrics)."
        )
