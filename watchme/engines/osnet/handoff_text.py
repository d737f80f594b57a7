"""README and preprocessing.json of an exported OSNet, for the backend's developers."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.augmentation import MEAN, STD
from watchme.engines.osnet.export_formats import INPUT, OUTPUT, Trained
from watchme.export.handoff_text import HandoffText, input_entry
from watchme.io.run_lookup import folder_of

# What the backend builds, and the height and width of its crops.
BACKEND_ARCHITECTURE = "osnet_ibn_x1_0"
BACKEND_SIZE = (256, 128)
_RESTORE = "model.fc.load_state_dict({k[3:]: v for k, v in checkpoint['state_dict'].items() if k.startswith('fc.')})"


def onnx_metadata(config: Config, trained: Trained) -> dict[str, str]:
    """Metadata of the ONNX file."""
    text = OsnetHandoffText(config, trained, Path())
    return {"arch": trained.name, "preprocessing": json.dumps(text.preprocessing())}


@dataclass
class OsnetHandoffText(HandoffText):
    """The texts of one export of an OSNet."""

    config: Config
    trained: Trained
    checkpoint: Path

    env_file = ".env.osnet"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the crops."""
        return self.config.dataset.height, self.config.dataset.width

    def env(self) -> dict[str, str]:
        return {
            "OSNET_SAVE_DIR": PurePosixPath(self.config.export.place).as_posix(),
            "OSNET_NUM_CLASSES": str(self.trained.classes),
            "OSNET_IMG_HEIGHT": str(self.size[0]),
            "OSNET_IMG_WIDTH": str(self.size[1]),
        }

    def preprocessing(self) -> dict[str, Any]:
        normalize = self.config.augmentation.normalize
        return {
            "task": "reid",
            "architecture": self.trained.name,
            "input": input_entry(INPUT, *self.size),
            "steps": [
                {
                    "resize": {
                        "height": self.size[0],
                        "width": self.size[1],
                        "keep_aspect_ratio": False,
                        "interpolation": "bilinear",
                        "antialias": True,
                    }
                },
                {"divide_by": 255},
                *([{"subtract": _plain(MEAN)}, {"divide_by": _plain(STD)}] if normalize else []),
                {"order": "height, width, colour to colour, height, width"},
            ],
            "output": {"name": OUTPUT, "dimensions": self.trained.net.feature_dim, "then": "divide by the L2 norm"},
            "compare": "cosine similarity, or Euclidean distance of normalised embeddings",
        }

    def mind(self) -> list[str]:
        notes = [
            "The embedding is the output of the layer `fc`. **A loader that drops keys beginning with `fc` leaves that "
            "layer random** and loses accuracy: see *Loading*.",
            "Embeddings of other weights are not comparable with these: compute stored galleries again, and choose "
            "a new threshold.",
        ]
        if self.trained.neck:
            notes.append(
                "Trained with a BNNeck. The backend embeds before it, and so do the evaluation, all numbers here and "
                "all files: the neck is not exported."
            )
        if not self.trained.classified:
            notes.append("The file had no classifier; the one in model.pth.tar is random. Embedding does not use it.")
        return notes

    def differences(self) -> list[str]:
        config, found = self.config, []
        if self.trained.name != BACKEND_ARCHITECTURE:
            found.append(
                f"The backend builds {BACKEND_ARCHITECTURE} and skips what does not fit: it would run these weights of "
                f"{self.trained.name} as a random model. No setting changes that: in "
                f"src/infrastructure/osnet/client/model.py, set name='{self.trained.name}' in the call of build_model."
            )
        if self.size != BACKEND_SIZE:
            found.append(self._other_size())
        if not config.augmentation.normalize:
            found.append(
                "The backend normalises by ImageNet's mean and deviation, this model was trained without "
                "(augmentation.normalize=false); change its preprocessing."
            )
        if config.evaluation.flip_test:
            found.append(
                "The run was evaluated with the mean of an image's and its mirror image's embedding "
                "(evaluation.flip_test); the backend embeds the image alone, as do the numbers here."
            )
        if config.dataset.tracklets:
            found.append(
                "The run compared means over tracklets (dataset.tracklets); the backend embeds single crops, whose "
                "accuracy is lower than the metrics here."
            )
        if config.dataset.load_train_targets:
            found.append(
                "The run's test/... are of weights adapted to the target (dataset.load_train_targets), in "
                f"best_<target>.pt; {self.checkpoint.name} is what is exported."
            )
        return found

    def _other_size(self) -> str:
        theirs, own = (f"{height}x{width}" for height, width in (BACKEND_SIZE, self.size))
        if folder_of(self.checkpoint) is not None:
            return (
                f"The backend feeds {theirs}, this model was trained on {own} (dataset.height, dataset.width); change "
                "its preprocessing."
            )
        return (
            f"{self.checkpoint.name} is in no run folder: on which size it was trained is not known here. It is "
            f"exported for {own}, as dataset.height and dataset.width say, and the backend feeds {theirs}: export it "
            "with dataset.height and dataset.width of its training."
        )

    def sections(self) -> dict[str, str]:
        height, width = self.size
        place = PurePosixPath(self.config.export.place)
        normalise = "subtract ImageNet's mean and divide by its deviation" if self.config.augmentation.normalize else ""
        return {
            "Loading": f"""
`model.pth.tar` is `{{"state_dict": ..., "arch", "num_classes"}}`: torchreid's own names without `module.`, readable
with `torch.load(path, weights_only=True)`. It fits `torchreid.models.build_model("{self.trained.name}",
{self.trained.classes}, loss="triplet", pretrained=False)` key for key. A loader that drops `classifier.*` alone gives
the trained model's embeddings.

A loader that also drops `fc.*` does not: `fc` is OSNet's embedding layer. No state dict can survive that, as the stock
forward sends every image through the random layer. Each of these loads the export without loss:

1. One line after the loader: `{_RESTORE}`
2. The same by the file beside the weights: `from load_reid import restore_embedding; restore_embedding(model, path)`
3. Instead of the loader: `from load_reid import load_reid; model = load_reid("{place / "model.pth.tar"}")`
{self._standalone()}""",
            "Preprocessing": f"""
For machines: `preprocessing.json`. In words: take the crop as RGB (OpenCV reads BGR), resize it to {height} high and
{width} wide, bilinear with antialiasing as Pillow and torchvision's `Resize` on PIL images do, without keeping the
aspect ratio; divide by 255{"; " + normalise if normalise else ""}; colours first. Divide the output by its L2 norm.
""",
        }

    def _standalone(self) -> str:
        readers = {"torchscript": "`model.torchscript` (`torch.jit.load`)", "onnx": "`model.onnx` (onnxruntime)"}
        written = [reader for name, reader in readers.items() if name in self.config.export.formats]
        return f"4. {' or '.join(written)}, with its own weights.\n" if written else ""

    def checked_on(self) -> str:
        return f"From `{self.checkpoint.name}`, checked on images of the dataset."


def _plain(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
