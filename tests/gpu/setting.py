"""Options that every step of the proof shares: folders, sizes, data, and whether there is a GPU."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
DEMO = ("identities=16", "cameras=3", "frame_size=160", "walk_length=3")


@dataclass(frozen=True)
class Setting:
    """One proof.

    Attributes:
        out: Folder of result.json and summary.txt.
        work: Folder of run folders, logs and caches.
        data: Folder that holds market1501_mini, coco128_person and weights; None: the built-in demo world.
        tiny: Smallest sizes, for a CPU and for CI.
        cuda: Whether there is a CUDA device. Steps that need one report "no GPU" without it.
    """

    out: Path
    work: Path
    data: Path | None
    tiny: bool
    cuda: bool

    def save(self) -> Path:
        """Write the options for the processes of the steps; returns the file."""
        path = self.work / "setting.json"
        path.write_text(json.dumps({name: str(value) if value else "" for name, value in asdict(self).items()}))
        return path

    @classmethod
    def load(cls, path: Path) -> "Setting":
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        data = Path(found["data"]) if found["data"] else None
        return cls(Path(found["out"]), Path(found["work"]), data, bool(found["tiny"]), bool(found["cuda"]))

    @property
    def device(self) -> str:
        """`train.device` of the device under test."""
        return "cuda" if self.cuda else "cpu"

    def reid(self, *more: str, weights: bool = True) -> list[str]:
        """Overrides of a small re-ID run: OSNet x0.25."""
        options = ["model=osnet_x0_25", "train.workers=2", "evaluation.visrank=0", "check.before_training=false"]
        if self.data is None:
            options += ["dataset=demo_reid", *(f"dataset.demo.{each}" for each in DEMO)]
            options += ["loss=reid", "train=osnet", "train.workers=1", "train.batch_size=16"]
        else:
            options += ["dataset=market1501", f"dataset.root={self.data / 'market1501_mini'}"]
            if weights:
                options += [f"model.weights={self.weights}"]
        if self.tiny:
            options += ["dataset.height=64", "dataset.width=32"]
        return [*options, *more]

    def detection(self, *more: str) -> list[str]:
        """Overrides of a small detector run: YOLO11n."""
        options = ["model=yolo11n", "model.pretrained=false", "train.workers=0" if self.tiny else "train.workers=4"]
        if self.data is None:
            options += ["dataset=demo_detection", *(f"dataset.demo.{each}" for each in DEMO)]
        else:
            options += ["dataset=person_detection", f"dataset.root={self.data / 'coco128_person'}"]
        return [*options, f"dataset.image_size={96 if self.tiny else 320}", "evaluation.plots=false", *more]

    @property
    def weights(self) -> Path | None:
        """Published weights to evaluate, if the data folder has them."""
        path = None if self.data is None else self.data / "weights" / "osnet_x0_25_msmt17.pth"
        return path if path is not None and path.is_file() else None

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of every process: the project on the path, and caches of the proof's own."""
        paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
        own = {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "WATCHME_CACHE": str(self.work / "cache"),
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(self.work / "inductor"),
            "TRITON_CACHE_DIR": str(self.work / "triton"),
        }
        if self.tiny:
            own["OMP_NUM_THREADS"] = "1"  # threads that wait for each other starve on a busy machine
        return {**os.environ, **own, **more}
