"""Interfaces between a run, its engine and its callbacks: `Job` in, epoch events on the way, `Result` out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from watchme.config.schema import RunConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class EpochEvent:
    """An epoch has ended."""

    epoch: int  # 1 for the first epoch; 0 for the evaluation before it
    epochs: int  # how many there are to be
    # Canonical name -> value, e.g. `train/loss`, `val/map50` (see core/metric_names.py). Undefined is NaN. Only what
    # the same seed gives again: no timings.
    metrics: Mapping[str, float]
    # Canonical name -> value of what differs between two equal runs, e.g. `time/epoch_s`, `perf/images_per_s`,
    # `perf/data_wait_share`
    timings: Mapping[str, float] = field(default_factory=dict)
    is_best: bool = False  # whether the objective is the best so far, so that weights/best.pt holds this epoch


@dataclass(frozen=True)
class StepEvent:
    """A point within an epoch."""

    step: int  # batches since the start of training, those of earlier epochs and of before a resume included
    # `step/loss` of the last batch, `step/lr`, and `step/images_per_s` since the last event
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Stop:
    """A callback's wish that training ends after this epoch, cleanly and with its best weights."""

    reason: str
    kind: Literal["early_stop", "pruned"] = "early_stop"


@dataclass(frozen=True)
class Picture:
    """An image file in the run folder that trackers and the report show."""

    name: str  # canonical name, e.g. `val/predictions`, `test/ranked`, `test/cmc`
    path: Path  # PNG or JPEG file
    caption: str = ""  # one line
    # Detections as (x1, y1, x2, y2 in pixels, score, label); empty for other pictures. A label `false person` is a
    # prediction that matches nobody, `missed person` ground truth that was not found (score NaN).
    boxes: tuple[tuple[float, float, float, float, float, str], ...] = ()
    epoch: int | None = None  # epoch it shows; None for the end of the run


@dataclass(frozen=True)
class Table:
    """Per-query or per-image results."""

    name: str  # canonical name, e.g. `test/per_query`
    columns: tuple[str, ...]  # names of the columns
    rows: tuple[tuple[Any, ...], ...]  # one tuple a row, of numbers and text
    # What trackers draw of it themselves, so that one chart compares runs; the report draws cmc, and shows pictures of
    # the others. precision_recall: columns confidence, precision, recall, class, boxes (how many there are of the
    # class); cmc: rank, share; confusion: actual, predicted, count
    chart: Literal["precision_recall", "cmc", "confusion"] | None = None


@dataclass(frozen=True)
class Embedding:
    """Points of a feature space and the picture that each is of, for TensorBoard's projector."""

    name: str  # canonical name, e.g. `test/embedding`
    vectors: "NDArray[np.float32]"  # shape (N, D)
    columns: tuple[str, ...]  # names of what is known of each point
    rows: tuple[tuple[Any, ...], ...]  # N tuples of that
    images: tuple[Path, ...]  # N files


# What an engine may hand to trackers and report.
Shown = Picture | Table | Embedding


@dataclass(frozen=True)
class Result:
    """What a run has come to."""

    # Final metrics by canonical name: `val/...` of the best epoch, `test/...`, `train/...` of it
    metrics: Mapping[str, float]
    objective: float  # best value of the config's `objective`; NaN where it is undefined
    best_epoch: int | None = None  # epoch of the best weights; None for an evaluation
    epochs: int = 0  # epochs that were trained, those before a resume included
    weights: Mapping[str, Path] = field(default_factory=dict)  # `best` and `last` -> file
    # Anything else for summary.json, e.g. metrics by class or by target
    details: Mapping[str, Any] = field(default_factory=dict)
    # Why the command must end with exit status 1 although all that it made stands: a dataset that would spoil a
    # training, an export that differs from its model. One text that names the fix; empty: all is well.
    refused: str = ""


def _ignore(*_: object) -> None:
    """Default of the hooks of a `Job`: nobody listens."""


def _no_models(engine: str, weights: Path) -> "Detector | Embedder":
    raise NotImplementedError("this job was made without models of other engines")


@dataclass(frozen=True)
class Job:
    """One run as an engine sees it."""

    config: RunConfig  # the engine's typed config
    folder: Path  # The run folder. Weights go to `folder / "weights"`; an engine writes nowhere else.
    # Call at the end of each epoch, before the epoch's `last` checkpoint is written (so that a kill between the two
    # leaves a line too many, which resuming drops, and never one too few). A `Stop` that it returns must be followed:
    # training ends cleanly, keeping its best weights.
    emit: Callable[[EpochEvent], Stop | None] = lambda event: None
    # Call once before the first `emit` of a resumed run with the last epoch that the checkpoint holds: callbacks drop
    # what they know of later ones
    resumed: Callable[[int], None] = _ignore
    # Put a value into the run's manifest (run.json): `record("dataset", {...})`
    record: Callable[[str, Any], None] = _ignore
    # Announce that something other than what was asked for is done, and why; it is logged as a warning and recorded in
    # the manifest
    fallback: Callable[[str], None] = _ignore
    show: Callable[[Shown], None] = _ignore  # hand a picture, a table or an embedding to the trackers and the report
    # Load a trained model of any engine by its name and the path of its weights
    load_model: Callable[[str, Path], "Detector | Embedder"] = _no_models
    # Call once nothing can be refused any more: it opens the run's folder and starts the trackers. What is recorded
    # before it is written then; the first `emit`, `resumed` or `show` calls it too.
    begin: Callable[[], None] = _ignore
    # Call within an epoch, whenever the number of the step is a multiple of `step_every`
    step: Callable[[StepEvent], None] = _ignore
    step_every: int = 0  # see `step`; 0: never, as nobody listens


class Detector(Protocol):
    """A trained person detector, as `watchme/engines/<name>/inference.py` loads it."""

    assumed: tuple[str, ...]  # what was taken for granted because the weights are in no run folder, a sentence each

    def detect(self, images: Sequence["NDArray[np.uint8]"]) -> "list[NDArray[np.float32]]":
        """Find people.

        Args:
            images: RGB, each of shape (height, width, 3), of any size.

        Returns:
            For each image an array of shape (n, 5): x1, y1, x2, y2 in pixels of that image, and the confidence,
            the most confident first.
        """
        ...


class Embedder(Protocol):
    """A trained re-ID model, as `watchme/engines/<name>/inference.py` loads it."""

    assumed: tuple[str, ...]  # what was taken for granted because the weights are in no run folder, a sentence each

    def embed(self, crops: Sequence["NDArray[np.uint8]"]) -> "NDArray[np.float32]":
        """Return an embedding of each crop of one person.

        Args:
            crops: RGB, each of shape (height, width, 3), of any size.

        Returns:
            Array of shape (n, dimensions), divided by its L2 norm, as the backend does.
        """
        ...


class Callback:
    """Base of what listens to a run: trackers, early stopping, pruning. A subclass overrides what it needs.

    Only the main process of a run has callbacks.
    """

    def on_resume(self, epoch: int) -> None:
        """The run goes on after `epoch`."""

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """An epoch has ended; return a `Stop` to end training."""
        return None

    def on_step(self, event: StepEvent) -> None:
        """Some steps of an epoch are done; must return at once."""

    def on_show(self, item: Shown) -> None:
        """A picture, a table or an embedding was made."""

    def on_end(self, status: str, result: Result | None) -> None:
        """The run has ended: `status` is finished, pruned, interrupted or failed; no result where it broke off."""

    def wait(self) -> None:
        """Called after `on_end` of all callbacks: return once the work that this one has in the background is done."""
