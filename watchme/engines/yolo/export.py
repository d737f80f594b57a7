"""mode=export of a detector: a hand-off folder for the backend, every file compared with the trained model.

Raw outputs are compared, before non-maximum suppression: which of two boxes of equal confidence it keeps can depend
on the last bit. Boxes are in pixels of the network's input.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError, DataError, ExportError
from watchme.core.interfaces import Job, Result
from watchme.engines.yolo import export_formats, isolation
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.config_rules import required_splits
from watchme.engines.yolo.handoff_text import YoloHandoffText
from watchme.engines.yolo.metric_names import canonical_metrics
from watchme.engines.yolo.preparation import choose_device, prepare
from watchme.export.base import SMALL, Exporter, Reader, largest_difference, torch_reader

log = logging.getLogger(__name__)


def export(job: Job) -> Result:
    """Write `handoff/`, compare each format with the trained model, and measure what the small formats lose.

    Returns:
        Metrics on the validation split where fp16 or int8 is asked for; folder, files and the backend's settings in
        `details`; `refused` where a format differs by more than `export.max_difference` or
        `export.max_box_difference`, or loses more than `export.max_loss`. Such a hand-off is left in
        `handoff-refused/`.

    Raises:
        CheckpointError: If the checkpoint is no detector of ultralytics, or has fewer classes than the dataset.
        DataError: If there are no images to check it on.
        ExportError: If a format cannot be written or run.
    """
    isolation.isolate()
    isolation.allow_code_in_files(cast(Config, job.config).model.trust)
    assert job.config.checkpoint is not None
    return YoloExporter(job, Path(job.config.checkpoint).expanduser()).run()


class YoloExporter(Exporter):
    """The export of one detector."""

    original = "best.pt"
    difference_columns = ("confidence difference", "limit", "box difference px", "px limit")

    def load(self) -> None:
        """Load the checkpoint, and the dataset on which it is checked."""
        from watchme.engines.yolo.validator import check_classes

        self.config = config = cast(Config, self.job.config)
        _refuse_osnet(self.checkpoint)
        model, _ = weights.load(self.checkpoint)
        self.names: Mapping[int, str] = model.names
        self.file_size = int(dict(model.args)["imgsz"])
        required = required_splits(config)
        self.yaml, scan = prepare(self.job, config, required, only_one=len(required) == 1)
        if not scan.splits["val"]["images"]:
            raise DataError("the val split has no images, so there is nothing to check the export on")
        check_classes(self.job, config, self.checkpoint, self.names, self.yaml)
        # As it was trained: not fused, float32, with the head that ultralytics exports and predicts by.
        if getattr(model, "end2end", False):
            model.end2end = False
        self.trained = torch_reader(model.float().eval())

    def write_original(self, path: Path) -> None:
        """Copy the checkpoint."""
        shutil.copyfile(self.checkpoint, path)

    def write_format(self, name: str) -> Path:
        """Let ultralytics write a format, in its own folder: it leaves intermediate files beside the weights."""
        from ultralytics import YOLO

        wanted = export_formats.FORMATS[name]
        work = self.handoff.root.with_name(f"{self.handoff.root.name}.{name}")
        work.mkdir()
        try:
            source = work / self.original
            shutil.copyfile(self.checkpoint, source)
            options: dict[str, Any] = {"dynamic": True, "batch": 16 if wanted.gpu else 1} if wanted.dynamic else {}
            options |= {"device": self._device(name), "imgsz": self.config.dataset.image_size}
            if name == "onnx":
                options["simplify"] = False  # it would need one more package; onnxruntime simplifies as it loads
            with _explained(name):
                # An absolute path, as some of its tools change the working directory.
                written = YOLO(str(source.resolve())).export(format=name, verbose=False, **options)
                path = Path(str(written))
                if not written or not path.exists():
                    raise RuntimeError("it wrote no file")
            target = self.handoff.place / path.name
            shutil.move(path, target)
            return target
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def read_format(self, name: str, path: Path) -> Reader:
        """Load a file as ultralytics runs it; where it takes an image at a time, it is called once for each."""
        import torch
        from ultralytics.nn.autobackend import AutoBackend

        device = self._device(name)
        where = torch.device(f"cuda:{device}" if device.isdigit() else device)
        with _explained(name):
            module = AutoBackend(str(path.resolve()), device=where, fp16=False, verbose=False, end2end=False)
        reader = torch_reader(module, where)
        if name == self.original or export_formats.FORMATS[name].dynamic:
            return reader
        return lambda batch: np.concatenate([reader(batch[number : number + 1]) for number in range(len(batch))])

    def images(self) -> Sequence[Path]:
        """The validation split."""
        return self._images("val")

    def training_images(self) -> Sequence[Path]:
        """The training split."""
        return self._images("train")

    def pixels(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """(B, 3, S, S) of some images, letterboxed as in ultralytics' validation."""
        from ultralytics.data.augment import LetterBox
        from ultralytics.utils.patches import imread

        box = LetterBox(self.config.dataset.image_size, auto=False)
        stacked = np.stack([box(image=imread(str(path)))[..., ::-1] for path in paths])
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2), np.float32) / np.float32(255)

    def new_difference(self) -> "BoxDifference":
        """Compare confidences and boxes."""
        return BoxDifference(self.config.export.max_difference, self.config.export.max_box_difference)

    def text(self) -> YoloHandoffText:
        return YoloHandoffText(self.config, self.names, self.checkpoint, self.file_size)

    def measure(self, files: Mapping[str, Path], readers: Mapping[str, Reader]) -> dict[str, float]:
        """Measure the objective of the trained model, of fp16 and of int8 on the validation split."""
        small = [name for name in SMALL if name in files]
        if not small:
            return {}
        found = {name: self._validated(files[name]) for name in (self.original, *small)}
        judged = self.config.objective.split("/", 1)[1]
        return self.compare_metrics(found, "val", ("map50_95", "map50"), judged)

    def threads_of(self, name: str) -> int | str:
        """Runtimes other than torch and onnxruntime choose the number themselves."""
        foreign = name in export_formats.FORMATS and name not in ("onnx", "torchscript")
        return "its own" if foreign else self.threads

    def _device(self, name: str) -> str:
        wanted = export_formats.FORMATS.get(name)
        return choose_device(self.config.train.device) if wanted is not None and wanted.gpu else "cpu"

    def _images(self, split: str) -> list[Path]:
        return sorted(path for path in (self.yaml.parent / "images" / split).rglob("*") if path.is_file())

    def _validated(self, path: Path) -> Mapping[str, float]:
        from ultralytics import YOLO

        from watchme.engines.yolo.validator import validate

        log.info("Measuring %s on the val split", path.name)
        folder = self.handoff.root.with_name(f"{self.handoff.root.name}.val")
        model = YOLO(str(path.resolve()), task="detect")
        try:
            # On squares, all of them: a rectangle that fits a batch may not fit an exported file.
            changes = {"rect": False, "plots": False, "augment": False}
            found, _ = validate(model, self.config, self.yaml, "val", "cpu", folder, **changes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return canonical_metrics(found.results_dict, "val")


class BoxDifference:
    """Largest differences of confidences and of box coordinates, the latter in pixels of the network's input."""

    def __init__(self, limit: float, box_limit: float) -> None:
        self._limit, self._box_limit = limit, box_limit
        self._confidence = self._box = 0.0

    def add(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Take one more batch of raw outputs, (B, 4 + classes, N), into account.

        Raises:
            ExportError: If the shapes differ.
        """
        if found.shape != expected.shape:
            raise ExportError(
                f"export.formats: a format has outputs of shape {found.shape[1:]}, the trained model "
                f"{expected.shape[1:]}, so they cannot be compared; leave it out"
            )
        self._confidence = max(self._confidence, largest_difference(found[:, 4:], expected[:, 4:]))
        self._box = max(self._box, largest_difference(found[:, :4], expected[:, :4]))

    def cells(self, *, exact: bool) -> tuple[float | None, ...]:
        """Confidence, its limit, box, its limit."""
        limits = (self._limit, self._box_limit) if exact else (None, None)
        return self._confidence, limits[0], self._box, limits[1]

    def refusals(self, *, exact: bool) -> Iterator[str]:
        """An exact format must give equal confidences and boxes."""
        if exact and not (self._confidence <= self._limit and self._box <= self._box_limit):
            yield (
                f"differs from the trained model by {self._confidence:.2g} in a confidence and {self._box:.2g} px in a "
                f"box (export.max_difference is {self._limit:g}, export.max_box_difference {self._box_limit:g})"
            )


def _refuse_osnet(path: Path) -> None:
    """Name the most common mistake: a re-ID model's weights."""
    from watchme.io.checkpoint import load_checkpoint

    try:
        content = load_checkpoint(path)
    except CheckpointError:
        return  # ultralytics' files hold code; weights.load reports what is wrong with others
    state = content.get("state_dict", content)
    if isinstance(state, Mapping) and any("conv2c" in str(name) for name in state):
        raise CheckpointError(f"{path} holds an OSNet, not a YOLO model; choose model=osnet_ibn or another OSNet")


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what ultralytics and a format's tools raise into an `ExportError`."""
    try:
        yield
    except (Exception, SystemExit) as error:  # they raise many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(
            f"export.formats: ultralytics cannot write or run {name} here: {reason}\n"
            f"    Leave it out: export.formats=[...]"
        ) from error
