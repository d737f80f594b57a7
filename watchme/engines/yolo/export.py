"""mode=export: a trained detector as a hand-off folder for the backend, every file of it checked on real images.

Raw outputs are compared, before non-maximum suppression: which of two boxes of equal confidence this keeps may hang on
the last bit. Boxes are in pixels of the network's input.
"""

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError, DataError, ExportError
from watchme.core.interfaces import Job, Result, Table
from watchme.engines.yolo import export_formats, isolation
from watchme.engines.yolo import initial_weights as weights
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.config_rules import required_splits
from watchme.engines.yolo.handoff_text import HandoffText
from watchme.engines.yolo.train import choose_device, prepare
from watchme.export import handoff, latency, onnx_files

log = logging.getLogger(__name__)

# (B, 3, H, W) float32 images, 0..1, to (B, 4 + classes, N) float32: boxes as center, width and height, confidences.
Detect = Callable[[NDArray[np.float32]], NDArray[np.float32]]
BEST = "best.pt"
_BATCH = 4
_SMALL = ("fp16", "int8")


def export(job: Job) -> Result:
    """Write `handoff/`, check each format against the trained model, and measure what the small ones lose.

    Returns:
        Metrics on the validation split where fp16 or int8 is asked for; folder, files and the lines for the backend's
        .env in `details`; `refused` where a format differs by more than `export.max_difference` or
        `export.max_box_difference`, or loses more than `export.max_loss`. Such a hand-off is left in
        `handoff-refused/`.

    Raises:
        CheckpointError: If the checkpoint is no detector of ultralytics, or has fewer classes than the dataset.
        DataError: If there are no images to check it on.
        ExportError: If a format cannot be written, or not be run.
    """
    isolation.isolate()
    config = cast(Config, job.config)
    assert config.checkpoint is not None
    checkpoint = Path(config.checkpoint).expanduser()
    with isolation.threads_kept(), _threads(config.export.threads) as threads:
        work = _Export(job, config, checkpoint, threads)
        with handoff.staged(job.folder, config.export.place) as made:
            work.made = made
            files = work.write_formats()
            readers = work.readers(files)
            work.compare(files, readers)
            metrics = work.measure(files)
            work.time(readers)
            text = HandoffText(config, work.names, checkpoint)
            made.env |= text.env()
            made.notes += text.notes()
            for note in text.differences():
                job.fallback(note)
            title = f"{config.model.name} on {config.dataset.name}"
            card = handoff.card_of(checkpoint, title) + text.card_section(made.tables)
            made.write(f"Hand-off: {title}", text.sections(), text.preprocessing(), card)
    refused = made.refused("Leave the format out (export.formats, export.fp16, export.int8)")
    details = made.details(files)
    job.record("handoff", details)
    return Result(metrics, metrics.get(config.objective, math.nan), details=details, refused=refused)


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[int]:
    """Let torch have so many threads for a block; None: as many as it has. `threads_kept` gives them back."""
    import torch

    if wanted is not None:
        torch.set_num_threads(wanted)
    yield torch.get_num_threads()


class _Export:
    """The work on one hand-off.

    Args:
        job: The run.
        config: Its config.
        checkpoint: What is exported.
        threads: Threads of torch and onnxruntime.
    """

    made: handoff.Handoff

    def __init__(self, job: Job, config: Config, checkpoint: Path, threads: int) -> None:
        from watchme.engines.yolo.validator import check_classes

        self.job = job
        self.config = config
        self.checkpoint = checkpoint
        self.threads = threads
        _refuse_osnet(checkpoint)
        self.model, _ = weights.load(checkpoint)
        _refuse_broken(self.model, checkpoint)
        self.names: Mapping[int, str] = self.model.names
        required = required_splits(config)
        self.yaml, scan = prepare(job, config, required, only_one=len(required) == 1)
        if not scan.splits["val"]["images"]:
            raise DataError("the val split has no images, so there is nothing to check the export on")
        check_classes(job, checkpoint, self.names, self.yaml)
        self.trained = _trained(self.model)

    def write_formats(self) -> dict[str, Path]:
        """Copy best.pt and let ultralytics write what is asked for."""
        export, place = self.config.export, self.made.place
        files = {BEST: place / BEST}
        shutil.copyfile(self.checkpoint, files[BEST])
        for name in export.formats:
            log.info("Writing %s", name)
            files[name] = self._write(name)
        if export.fp16:
            files["fp16"] = place / "best_fp16.onnx"
            onnx_files.to_fp16(files["onnx"], files["fp16"])
        if export.int8:
            files["int8"] = place / "best_int8.onnx"
            onnx_files.to_int8(files["onnx"], files["int8"], self._calibration())
        return files

    def _write(self, name: str) -> Path:
        """One format, in a folder of its own, as ultralytics leaves files between beside the weights."""
        from ultralytics import YOLO

        wanted = export_formats.FORMATS[name]
        work = self.made.root.with_name(f"{self.made.root.name}.{name}")
        work.mkdir()
        try:
            source = work / BEST
            shutil.copyfile(self.checkpoint, source)
            options: dict[str, Any] = {"dynamic": True, "batch": 16 if wanted.gpu else 1} if wanted.dynamic else {}
            if name == "onnx":
                options["simplify"] = False  # it would need one more package; onnxruntime simplifies as it loads
            device = choose_device(self.config.train.device) if wanted.gpu else "cpu"
            with _explained(name):
                # An absolute path, as some of its tools change the working directory.
                made = YOLO(str(source.resolve())).export(
                    format=name, imgsz=self.config.dataset.image_size, device=device, verbose=False, **options
                )
                path = Path(str(made))
                if not made or not path.exists():
                    raise RuntimeError("it wrote no file")
            target = self.made.place / path.name
            shutil.move(path, target)
            return target
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def readers(self, files: Mapping[str, Path]) -> dict[str, Detect]:
        """Load each file again, as whoever gets it will."""
        readers: dict[str, Detect] = {}
        for name, path in files.items():
            if name in ("onnx", *_SMALL):
                readers[name] = onnx_files.session(path, self.threads)
            else:
                gpu = name in export_formats.FORMATS and export_formats.FORMATS[name].gpu
                with _explained(name):
                    readers[name] = _backend(path, choose_device(self.config.train.device) if gpu else "cpu")
        return readers

    def compare(self, files: Mapping[str, Path], readers: Mapping[str, Detect]) -> None:
        """Compare raw outputs for real images with those of the trained model."""
        export = self.config.export
        images = self._images("val")
        chosen = [images[number] for number in handoff.evenly(len(images), export.images)]
        largest = dict.fromkeys(readers, (0.0, 0.0))
        for start in range(0, len(chosen), _BATCH):
            batch = self._pixels(chosen[start : start + _BATCH])
            wanted = self.trained(batch)
            for name, reader in readers.items():
                found = self._run(name, reader, batch)
                if found.shape != wanted.shape:
                    raise ExportError(
                        f"export.formats: {files[name].name} gives outputs of shape {found.shape[1:]}, the trained "
                        f"model {wanted.shape[1:]}, so they cannot be compared"
                    )
                pair = (_difference(found[:, 4:], wanted[:, 4:]), _difference(found[:, :4], wanted[:, :4]))
                largest[name] = (max(largest[name][0], pair[0]), max(largest[name][1], pair[1]))
        rows = []
        for name, path in files.items():
            exact = name not in _SMALL
            confidence, box = largest[name]
            rows.append(
                (
                    name,
                    path.name,
                    _bytes(path) / 1e6,
                    confidence,
                    export.max_difference if exact else None,
                    box,
                    export.max_box_difference if exact else None,
                )
            )
            if exact and not (confidence <= export.max_difference and box <= export.max_box_difference):
                self.made.refusals.append(
                    f"{path.name} differs from the trained model by {confidence:.2g} in a confidence and {box:.2g} px "
                    f"in a box on {len(chosen)} images; export.max_difference is {export.max_difference:g}, "
                    f"export.max_box_difference {export.max_box_difference:g}"
                )
        self.job.record("export_images", len(chosen))
        columns = ("format", "file", "MB", "confidence difference", "limit", "box difference px", "px limit")
        self.made.show(self.job, Table("export/formats", columns, tuple(rows)))

    def measure(self, files: Mapping[str, Path]) -> dict[str, float]:
        """Measure the objective of the trained model, of fp16 and of int8 on the validation split."""
        small = [name for name in _SMALL if name in files]
        if not small:
            return {}
        export, objective = self.config.export, self.config.objective.split("/", 1)[1]
        values = {name: self._validated(files[name]) for name in (BEST, *small)}
        metrics = {f"val/{name}": values[BEST][f"val/{name}"] for name in ("map50_95", "map50")}
        best = values[BEST][f"val/{objective}"]
        if not best > 0:
            self.job.fallback(
                f"val/{objective} of the trained model is {best:.4g}: no loss by fp16 or int8 can be seen"
            )
        rows = []
        for name, found in values.items():
            value = found[f"val/{objective}"]
            lost = None if name == BEST else best - value
            limit = None if name == BEST else export.max_loss
            rows.append((name, found["val/map50_95"], found["val/map50"], lost, limit))
            if name == BEST:
                continue
            metrics[f"val/{objective}_{name}"] = value
            if best > 0 and not best - value <= export.max_loss:
                self.made.refusals.append(
                    f"{files[name].name} loses {best - value:.4f} of val/{objective}; "
                    f"export.max_loss is {export.max_loss:g}"
                )
        columns = ("weights", "map50_95", "map50", f"lost {objective}", "limit")
        self.made.show(self.job, Table("export/metrics", columns, tuple(rows)))
        return metrics

    def time(self, readers: Mapping[str, Detect]) -> None:
        """Time all formats at all batch sizes; one that takes an image at a time is called once for each."""
        export = self.config.export
        images = self._images("val")
        rows = []
        for size in export.latency_batches:
            batch = self._pixels([images[number % len(images)] for number in range(size)])
            calls = {name: _Call(self._run, name, reader, batch) for name, reader in readers.items()}
            for name, took in latency.measure(calls, export.latency_rounds).items():
                own = name in export_formats.FORMATS and name not in ("onnx", "torchscript")
                threads = "its own" if own else str(self.threads)
                rows.append((name, size, took.median, took.low, took.high, took.median / size, threads))
        columns = ("format", "batch", "median ms", "10% ms", "90% ms", "ms an image", "threads")
        if rows:
            self.made.show(self.job, Table("export/latency", columns, tuple(rows)))

    def _run(self, name: str, reader: Detect, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        wanted = export_formats.FORMATS.get(name)
        if wanted is None or wanted.dynamic or len(batch) == 1:
            return reader(batch)
        return np.concatenate([reader(batch[number : number + 1]) for number in range(len(batch))])

    def _validated(self, path: Path) -> dict[str, float]:
        from ultralytics import YOLO

        from watchme.engines.yolo.events import canonical_metrics
        from watchme.engines.yolo.validator import validate

        log.info("Measuring %s on the val split", path.name)
        folder = self.made.root.with_name(f"{self.made.root.name}.val")
        try:
            # Squares for all of them: a rectangle that fits a batch is more than an exported file may be made for.
            found, _ = validate(
                YOLO(str(path.resolve()), task="detect"),
                self.config,
                self.yaml,
                "val",
                "cpu",
                folder,
                rect=False,
                plots=False,
                augment=False,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return dict(canonical_metrics(found.results_dict, "val"))

    def _images(self, split: str) -> list[Path]:
        return sorted(path for path in (self.yaml.parent / "images" / split).rglob("*") if path.is_file())

    def _pixels(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """(B, 3, S, S) of some images, as the network gets them."""
        from ultralytics.data.augment import LetterBox
        from ultralytics.utils.patches import imread

        box = LetterBox(self.config.dataset.image_size, auto=False)
        stacked = np.stack([box(image=imread(str(path)))[..., ::-1] for path in paths])
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2), np.float32) / np.float32(255)

    def _calibration(self) -> Iterator[NDArray[np.float32]]:
        """Training images, one at a time, evenly from all of them."""
        images = self._images("train")
        for number in handoff.evenly(len(images), self.config.export.calibration_images):
            yield self._pixels([images[number]])


class _Call:
    """A format on a batch, ready to be timed."""

    def __init__(self, run: Callable[..., object], name: str, reader: Detect, batch: NDArray[np.float32]) -> None:
        self._arguments = (name, reader, batch)
        self._run = run

    def __call__(self) -> object:
        return self._run(*self._arguments)


def _trained(model: Any) -> Detect:
    """The model as it was trained: not fused, float32, with the head that ultralytics exports and predicts by."""
    if getattr(model, "end2end", False):
        model.end2end = False
    return _as_detect(model.float().eval())


def _backend(path: Path, device: str) -> Detect:
    """A file as ultralytics runs it."""
    import torch
    from ultralytics.nn.autobackend import AutoBackend

    where = torch.device(f"cuda:{device}" if device.isdigit() else device)
    return _as_detect(AutoBackend(str(path.resolve()), device=where, fp16=False, verbose=False, end2end=False), where)


def _as_detect(module: Any, device: Any = "cpu") -> Detect:
    import torch

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            found = module(torch.from_numpy(batch).to(device))
        while isinstance(found, (list, tuple)):
            found = found[0]
        return np.asarray(found.cpu().numpy() if isinstance(found, torch.Tensor) else found, np.float32)

    return run


def _difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    largest = float(np.abs(found - wanted).max(initial=0.0))
    return largest if math.isfinite(largest) else math.inf


def _bytes(path: Path) -> int:
    """Size of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(inside.stat().st_size for inside in path.rglob("*") if inside.is_file())


def _refuse_osnet(path: Path) -> None:
    """Tell the commonest mistake by its name: a re-ID model's weights."""
    from watchme.io.checkpoint import load_checkpoint

    try:
        content = load_checkpoint(path)
    except CheckpointError:
        return  # ultralytics' files need code to be read; loading says what is wrong with others
    state = content.get("state_dict", content)
    if isinstance(state, Mapping) and any("conv2c" in str(name) for name in state):
        raise CheckpointError(f"{path} holds an OSNet, no YOLO model; choose model=osnet_ibn or its like")


def _refuse_broken(model: Any, path: Path) -> None:
    broken = next((name for name, value in model.named_parameters() if not value.isfinite().all()), None)
    if broken is not None:
        raise CheckpointError(f"{path} holds numbers that are not finite, e.g. in {broken}; its training broke down")


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever ultralytics and a format's tools raise into an `ExportError`."""
    try:
        yield
    except (Exception, SystemExit) as error:  # they raise whatever they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(
            f"export.formats: ultralytics cannot make or run {name} here: {reason}\n"
            f"    Leave it out: export.formats=[...]"
        ) from error
