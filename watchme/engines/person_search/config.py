"""Config of person search, and what can be checked of it without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watchme.config.schema import DatasetConfig, DemoWorldConfig, ModelConfig, RunConfig, TrainConfig, option
from watchme.config.type_conversion import nearest
from watchme.core.errors import CheckpointError, DataError, Problem
from watchme.core.metric_names import SEARCH
from watchme.data.person_search import EXPECTED, Format, find_format
from watchme.io.run_lookup import config_of

# The engine of weights that lie in no run folder.
DETECTOR_ENGINE, REID_ENGINE = "yolo", "osnet"
_TASKS = {"detector": "detection", "reid": "reid"}
_WANTED = {"detector": "a detector", "reid": "a re-ID model"}


@dataclass(frozen=True, kw_only=True)
class SearchModel(ModelConfig):
    """Two trained models; `detector` and `reid` name them."""

    engine: Literal["person_search"] = option()


@dataclass(frozen=True, kw_only=True)
class SearchDataset(DatasetConfig):
    """Frames in which it is known where people are, and who they are."""

    task: Literal["search"] = option()
    format: Format | None = option(None, "how root is read: json, prw, cuhk_sysu or mot; null: as it looks")
    gallery_size: int = option(100, "cuhk_sysu: images in a query's gallery, as TestG<n>.mat lists them", ge=1)
    frame_step: int | None = option(None, "mot: every how many frames one is taken; null: one a second", ge=1)
    min_visibility: float = option(0.25, "mot: whoever is seen less is neither right nor wrong", ge=0, le=1)
    shared_ids: bool = option(False, "mot: an identity has the same number in all sequences")
    demo: DemoWorldConfig | None = option(None, "parameters of the demo world, where root is null")


@dataclass(frozen=True, kw_only=True)
class SearchEvaluation:
    """What counts as found, and what is shown."""

    engine: Literal["person_search"] = option()
    confidence: float = option(0.25, "detections from this confidence on make up the gallery", ge=0, le=1)
    iou: float = option(0.5, "IoU with the box drawn by hand from which a detection is right", gt=0, lt=1)
    small_boxes: bool | None = option(
        None, "lower it for small boxes, as CUHK-SYSU's code does; null: where the dataset's does"
    )
    gallery: Literal["other_frames", "other_cameras"] = option(
        "other_frames", "where a query is looked for; other_cameras: as re-ID is evaluated"
    )
    thresholds: list[float] = option(
        factory=lambda: [0.25, 0.4, 0.5, 0.6, 0.7, 0.8], help="confidences to compare in a table", ge=0, le=1
    )
    frame_batch: int = option(8, "frames that are detected in together", ge=1)
    crop_batch: int = option(64, "crops that are embedded together", ge=1)
    pictures: int = option(4, "searches drawn of the best, and of the worst", ge=0)
    topk: int = option(6, "gallery detections drawn a search", ge=1)
    save_results: bool = option(False, "keep detections and embeddings as evaluation/search.npz")


@dataclass(frozen=True, kw_only=True)
class SearchRun(TrainConfig):
    """Only device and workers do anything here."""

    engine: Literal["person_search"] = option()


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """One evaluation of person search."""

    model: SearchModel = option()
    dataset: SearchDataset = option()
    evaluation: SearchEvaluation = option()
    train: SearchRun = option()


def engine_of(weights: Path, default: str) -> str:
    """The engine that weights belong to: that of their run, or `default` where they lie in none."""
    config = config_of(weights)
    return default if config is None else str(config["model"]["engine"])


def check(config: Config) -> list[Problem]:
    """Return what is wrong with the two models and the dataset, without importing torch."""
    return [
        *_model_problems("detector", config.detector),
        *_model_problems("reid", config.reid),
        *_dataset_problems(config),
        *_other_problems(config),
    ]


def _model_problems(key: str, path: str | None) -> Iterator[Problem]:
    wanted = _WANTED[key]
    if path is None:
        yield Problem(key, f"mode=search needs the weights of {wanted}: {key}=<run>/weights/best.pt")
        return
    file = Path(path).expanduser()
    if file.is_dir():
        inside = file / "weights" / "best.pt"
        fix = f"{key}={inside}" if inside.is_file() else f"{key}=<run>/weights/best.pt"
        yield Problem(key, f"is a folder; give the weights in it: {fix}", repr(path))
    elif not file.is_file():
        yield Problem(key, f"no such file; give the weights of {wanted}: {key}=<run>/weights/best.pt", repr(path))
    else:
        try:
            found = config_of(file)
            task = None if found is None else found["dataset"]["task"]
            name = None if found is None else found["model"]["name"]
        except (CheckpointError, KeyError, TypeError) as error:
            yield Problem(key, f"the config of its run cannot be read: {error}", repr(path))
            return
        if task not in (None, _TASKS[key]):
            yield Problem(key, f"is of a run that trained {name} for the task {task}; give {wanted}", repr(path))


def _other_problems(config: Config) -> Iterator[Problem]:
    for key, value in (("checkpoint", config.checkpoint), ("model.weights", config.model.weights)):
        if value is not None:
            yield Problem(key, "mode=search takes its two models from detector and reid; leave it null", repr(value))
    names = [f"test/{name}" for name in SEARCH]
    if config.objective not in names:
        close = nearest(config.objective, names)
        hint = f"; did you mean {close}?" if close else ""
        yield Problem("objective", f"expected one of {', '.join(names)}{hint}", repr(config.objective))


def _dataset_problems(config: Config) -> Iterator[Problem]:
    dataset = config.dataset
    if dataset.root is None:
        if dataset.demo is None:
            yield Problem("dataset.root", f"say where the dataset lies: dataset.root=<folder>\n{EXPECTED}")
            return
        for text in dataset.demo.problems():
            name, _, fault = text.partition(":")
            yield Problem(f"dataset.demo.{name}", fault.strip())
        return
    try:
        found = find_format(Path(dataset.root), dataset.format)
    except DataError as error:
        yield Problem("dataset.root", str(error), repr(dataset.root))
        return
    if found == "cuhk_sysu" and config.evaluation.gallery == "other_cameras":
        yield Problem("evaluation.gallery", "CUHK-SYSU knows no cameras; leave it other_frames", "'other_cameras'")
