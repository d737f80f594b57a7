"""mode=export for any engine: write a trained model in several formats, load each file again, compare, measure, time.

An engine subclasses `Exporter` (how its formats are written and read, how two outputs are compared) and
`HandoffText` (what the README and preprocessing.json say).
"""

import contextlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from watchme.core.errors import DataError
from watchme.core.interfaces import Job, Result, Table
from watchme.core.metric_names import measured_objective
from watchme.core.process_state import torch_threads
from watchme.core.spacing import evenly
from watchme.export import latency, onnx_files
from watchme.export.handoff import Handoff, card_of, staged
from watchme.export.handoff_text import HandoffText

log = logging.getLogger(__name__)

# (B, 3, H, W) float32 images, preprocessed, to the model's float32 output.
Reader = Callable[[NDArray[np.float32]], NDArray[np.float32]]
SMALL = ("fp16", "int8")
_BATCH = 8


class Difference(Protocol):
    """How far the outputs of one file are from those of the trained model, collected over batches."""

    def add(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Take the outputs for one more batch into account."""
        ...

    def cells(self, *, exact: bool) -> tuple[float | None, ...]:
        """Values for `Exporter.difference_columns`; only an `exact` format has limits."""
        ...

    def refusals(self, *, exact: bool) -> Iterator[str]:
        """Why the file must not be used, each as the end of a sentence that begins with its name."""
        ...


class Exporter(ABC):
    """One export: the trained model, the images it is checked on, and the hand-off that is being made."""

    original: ClassVar[str]  # format and file name of the exported PyTorch weights
    difference_columns: ClassVar[tuple[str, ...]]
    handoff: Handoff
    threads: int  # of torch and onnxruntime
    trained: Reader

    def __init__(self, job: Job, checkpoint: Path) -> None:
        self.job = job
        self.checkpoint = checkpoint
        self.options: Any = job.config.export

    @abstractmethod
    def load(self) -> None:
        """Load the checkpoint and the dataset; set `trained`."""

    @abstractmethod
    def write_original(self, path: Path) -> None:
        """Write the weights in the form that the backend loads."""

    @abstractmethod
    def write_format(self, name: str) -> Path:
        """Write one of `export.formats` into `handoff.place`."""

    @abstractmethod
    def read_format(self, name: str, path: Path) -> Reader:
        """Load a file of one's own making, other than ONNX."""

    @abstractmethod
    def images(self) -> Sequence[Path]:
        """Images on which formats are compared and timed."""

    @abstractmethod
    def training_images(self) -> Sequence[Path]:
        """Images from which int8 takes the ranges of activations."""

    @abstractmethod
    def pixels(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """(B, 3, H, W) of some images, as the network gets them."""

    @abstractmethod
    def new_difference(self) -> Difference:
        """An empty comparison with the trained model."""

    @abstractmethod
    def measure(self, files: Mapping[str, Path], readers: Mapping[str, Reader]) -> dict[str, float]:
        """Metrics of the trained model and of the small formats; usually by `compare_metrics`."""

    @abstractmethod
    def text(self) -> HandoffText:
        """What the hand-off says."""

    def threads_of(self, name: str) -> int | str:
        """Threads that a format runs on, for the table of latencies."""
        return self.threads

    def run(self) -> Result:
        """Make `handoff/`, or `handoff-refused/` where a limit of the `export` group is exceeded.

        Raises:
            CheckpointError: If the checkpoint is not of this engine.
            DataError: If there are no images to check it on.
            ExportError: If a format cannot be written or read.
        """
        with contextlib.ExitStack() as stack:
            self.threads = stack.enter_context(torch_threads(self.options.threads))
            self.load()
            self.job.begin()
            self.handoff = made = stack.enter_context(staged(self.job.folder, self.options.place))
            files = self._write_formats()
            readers = {name: self._read(name, path) for name, path in files.items()}
            self._compare(files, readers)
            metrics = self.measure(files, readers)
            self._time(readers)
            self._describe()
        refused = made.refused("Leave the format out (export.formats, export.fp16, export.int8)")
        details = made.details(files)
        self.job.record("handoff", details)
        objective = measured_objective("train", self.job.config.objective, metrics)
        return Result(metrics, metrics.get(objective, math.nan), details=details, refused=refused)

    def compare_metrics(
        self, found: Mapping[str, Mapping[str, float]], split: str, columns: tuple[str, str], judged: str
    ) -> dict[str, float]:
        """Show what the small formats lose, and refuse those that lose more of `judged` than `export.max_loss`.

        `found` holds the metrics by canonical name of the trained model, then of the formats; others than it and the
        small ones are shown alone. `columns` are the two metrics to show.
        """
        first = next(iter(found))
        best = found[first][f"{split}/{judged}"]
        if not best > 0:
            self.job.fallback(
                f"{split}/{judged} of the trained model is {best:.4g}, so a loss by fp16 or int8 cannot be measured"
            )
        metrics = {f"{split}/{name}": found[first][f"{split}/{name}"] for name in columns}
        rows = []
        for name, values in found.items():
            value = values[f"{split}/{judged}"]
            lost = None if name == first else best - value
            limit = self.options.max_loss if name in SMALL else None
            rows.append((name, *(values[f"{split}/{column}"] for column in columns), lost, limit))
            if name not in SMALL:
                continue
            metrics[f"{split}/{judged}_{name}"] = value
            if best > 0 and not best - value <= self.options.max_loss:
                self.handoff.refusals.append(
                    f"{self._small_file(name).name} loses {best - value:.4f} of {split}/{judged}; "
                    f"export.max_loss is {self.options.max_loss:g}"
                )
        shown = ("weights", *columns, f"lost {judged}", "limit")
        self.handoff.show(self.job, Table("export/metrics", shown, tuple(rows)))
        return metrics

    def _write_formats(self) -> dict[str, Path]:
        files = {self.original: self.handoff.place / self.original}
        self.write_original(files[self.original])
        for name in self.options.formats:
            log.info("Writing %s", name)
            files[name] = self.write_format(name)
        if self.options.fp16:
            files["fp16"] = self._small_file("fp16")
            onnx_files.to_fp16(files["onnx"], files["fp16"])
        if self.options.int8:
            files["int8"] = self._small_file("int8")
            onnx_files.to_int8(files["onnx"], files["int8"], self._calibration())
        return files

    def _small_file(self, name: str) -> Path:
        return self.handoff.place / f"{self.original.split('.')[0]}_{name}.onnx"

    def _calibration(self) -> Iterator[NDArray[np.float32]]:
        """Training images, one at a time, spread evenly."""
        paths = self.training_images()
        if not paths:
            raise DataError("export.int8 takes the ranges of activations from training images, and there are none")
        for number in evenly(len(paths), self.options.calibration_images):
            yield self.pixels([paths[number]])

    def _read(self, name: str, path: Path) -> Reader:
        if name in ("onnx", *SMALL):
            return onnx_files.session(path, self.threads)
        return self.read_format(name, path)

    def _compare(self, files: Mapping[str, Path], readers: Mapping[str, Reader]) -> None:
        paths = self.images()
        chosen = [paths[number] for number in evenly(len(paths), self.options.images)]
        differences = {name: self.new_difference() for name in readers}
        for start in range(0, len(chosen), _BATCH):
            batch = self.pixels(chosen[start : start + _BATCH])
            expected = self.trained(batch)
            for name, reader in readers.items():
                differences[name].add(reader(batch), expected)
        rows = []
        for name, path in files.items():
            exact = name not in SMALL
            rows.append((name, path.name, _bytes(path) / 1e6, *differences[name].cells(exact=exact)))
            reasons = differences[name].refusals(exact=exact)
            self.handoff.refusals += [f"{path.name} {reason}, on {len(chosen)} images" for reason in reasons]
        self.job.record("export_images", len(chosen))
        columns = ("format", "file", "MB", *self.difference_columns)
        self.handoff.show(self.job, Table("export/formats", columns, tuple(rows)))

    def _time(self, readers: Mapping[str, Reader]) -> None:
        paths = self.images()
        rows = []
        for size in self.options.latency_batches:
            batch = self.pixels([paths[number % len(paths)] for number in range(size)])
            calls = {name: partial(reader, batch) for name, reader in readers.items()}
            for name, took in latency.measure(calls, self.options.latency_rounds).items():
                times = (took.median, took.low, took.high, took.median / size)
                rows.append((name, size, *times, self.threads_of(name)))
        columns = ("format", "batch", "median ms", "10% ms", "90% ms", "ms per image", "threads")
        if rows:
            self.handoff.show(self.job, Table("export/latency", columns, tuple(rows)))

    def _describe(self) -> None:
        """Write the README, the model card and preprocessing.json; announce what the backend does differently."""
        text, config = self.text(), self.job.config
        self.handoff.env, self.handoff.env_file = text.env(), text.env_file
        self.handoff.notes = [*text.notes(), *self.handoff.notes]
        for difference in text.differences():
            self.job.fallback(difference)
        title = f"{config.model.name} on {config.dataset.name}"
        card = card_of(self.checkpoint, title) + text.card_section(self.handoff.tables)
        self.handoff.write(f"Hand-off: {title}", text.sections(), text.preprocessing(), card)


def torch_reader(module: Callable[[torch.Tensor], Any], device: str | torch.device = "cpu") -> Reader:
    """A torch module as a `Reader`: of several outputs the first."""

    @torch.no_grad()
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        found = module(torch.from_numpy(batch).to(device))
        while isinstance(found, (list, tuple)):
            found = found[0]
        return np.asarray(found.float().cpu().numpy() if isinstance(found, torch.Tensor) else found, np.float32)

    return run


def largest_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest absolute difference; infinite where it is not finite, so that it exceeds every limit."""
    largest = float(np.abs(found - expected).max(initial=0.0))
    return largest if math.isfinite(largest) else math.inf


def _bytes(path: Path) -> int:
    """Size of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(inside.stat().st_size for inside in path.rglob("*") if inside.is_file())
