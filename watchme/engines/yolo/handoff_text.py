"""What a hand-off of a detector says to the backend's team, in words and for machines."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from watchme.core.interfaces import Table
from watchme.engines.yolo.config import Config
from watchme.export.handoff import markdown_table

# What the backend takes for people.
BACKEND_CLASS = "person"
_BACKEND_SIZE = 640


class HandoffText:
    """Texts on one export.

    Args:
        config: The run's config.
        names: Class names of the model by number.
        checkpoint: Where it comes from.
    """

    def __init__(self, config: Config, names: Mapping[int, str], checkpoint: Path) -> None:
        self.config = config
        self.names = names
        self.checkpoint = checkpoint
        self.size = config.dataset.image_size

    def env(self) -> dict[str, str]:
        """The backend's variables that these weights are for."""
        place = PurePosixPath(self.config.export.place)
        # <project>/<name>/weights/best.pt, as ultralytics lays out a project.
        project = place.parent.parent if place.name == "weights" and len(place.parts) > 2 else place
        return {
            "YOLO_PROJECT_PATH": project.as_posix(),
            "YOLO_MODEL_PATH": (place / "best.pt").as_posix(),
            "YOLO_IMAGE_SIZE": str(self.size),
        }

    def preprocessing(self) -> dict[str, Any]:
        """How an image becomes the network's input, and its output boxes."""
        evaluation = self.config.evaluation
        return {
            "task": "detection",
            "architecture": self.config.model.name,
            "classes": {str(number): name for number, name in self.names.items()},
            "input": {
                "name": "images",
                "shape": ["batch", 3, self.size, self.size],
                "dtype": "float32",
                "colours": "RGB",
            },
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
                "then": {
                    "non_maximum_suppression_iou": evaluation.iou,
                    "max_detections": evaluation.max_detections,
                },
            },
        }

    def notes(self) -> list[str]:
        """What the backend's team must mind."""
        notes = [
            "`YOLO(path)` does all of *Preprocessing* and the suppression by itself, for `best.pt` and for every other "
            "format here.",
            "Choose the confidence threshold anew: that of other weights means something else.",
        ]
        return notes + [f"**{text}**" for text in self.differences()]

    def differences(self) -> list[str]:
        """Where the backend, as it is, does something else than the run did."""
        found = []
        first = self.names.get(0, "nothing")
        if first != BACKEND_CLASS:
            found.append(
                f"The backend takes class 0 for people, and class 0 of this model is {first}. Train with "
                "dataset.classes=[person,...], or change the backend."
            )
        if self.size != _BACKEND_SIZE:
            found.append(
                f"The model was trained at {self.size} px (dataset.image_size), ultralytics' default is "
                f"{_BACKEND_SIZE}; let the backend pass imgsz=YOLO_IMAGE_SIZE={self.size}."
            )
        if self.config.evaluation.augment:
            found.append(
                "The run was evaluated with test-time augmentation (evaluation.augment); the backend detects without, "
                "as do the numbers here."
            )
        return found

    def sections(self) -> dict[str, str]:
        """Sections of the README."""
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

    def card_section(self, tables: Sequence[Table]) -> str:
        """What the model card says of the export."""
        parts = [
            "\n## Export\n\n",
            f"From `{self.checkpoint.name}`, checked on the validation split, on squares (training "
            "validates on rectangles, which gives slightly other metrics).\n",
        ]
        parts += [f"\n{markdown_table(table)}\n" for table in tables]
        return "".join(parts)
