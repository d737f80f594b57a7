"""Schema of person search's config; `config_rules.py` holds what else a valid config must fulfil."""

from dataclasses import dataclass
from typing import Literal

from watchme.config.schema import DatasetConfig, DemoWorldConfig, ModelConfig, RunConfig, TrainConfig, option
from watchme.data.person_search.readers import Format

Search = Literal["auto", "exact", "faiss"]
Output = Literal["jsonl", "yolo", "coco", "drawn", "frames", "parquet"]


@dataclass(frozen=True, kw_only=True)
class SearchModel(ModelConfig):
    """Two trained models; `detector` and `reid` name them."""

    engine: Literal["person_search"] = option()
    trust: bool = option(False, "load a detector's .pt file that runs code of its own; only of people you trust")


@dataclass(frozen=True, kw_only=True)
class SearchDataset(DatasetConfig):
    """Frames in which it is known where people are, and who they are."""

    task: Literal["search"] = option()
    format: Format | None = option(None, "how root is read: json, prw, cuhk_sysu or mot; null: as it looks")
    gallery_size: int = option(100, "cuhk_sysu: images in a query's gallery, as TestG<n>.mat lists them", ge=1)
    frame_step: int | None = option(None, "mot: every how many frames one is taken; null: one a second", ge=1)
    min_visibility: float = option(0.25, "mot: less visible people count as neither right nor wrong", ge=0, le=1)
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
class PredictConfig:
    """How one's own pictures and videos are gone through, and what is written of them."""

    confidence: float = option(0.25, "detections from this confidence on count", ge=0, le=1)
    iou: float = option(
        0.5,
        "of two boxes that overlap by more only the more confident counts; 1: as the detector's run does",
        gt=0,
        le=1,
    )
    stride: int = option(1, "every how many frames one is looked at", ge=1)
    frames: int | None = option(None, "stop before this frame of the source; null: at its end", ge=1)
    frame_batch: int = option(8, "frames that are detected in together", ge=1)
    crop_batch: int = option(64, "crops that are embedded together", ge=1)
    save: list[Output] = option(
        factory=lambda: ["jsonl", "drawn"],
        help="what is written: jsonl (a line a frame), yolo (labels/*.txt), coco (predictions.json), drawn (boxes in "
        "pictures or a video), frames (each frame of a video as a picture), parquet (embeddings)",
    )
    video: Literal["mp4", "webm"] = option("mp4", "format of a drawn video")
    same_person: float | None = option(
        None,
        "with reid: tracks of at least this mean cosine similarity are one person, and a track whose parts are less "
        "alike is of two; null: where 0.1% of different people are alike, by the calibration.json of the re-ID run, "
        "else 0.65",
        gt=-1,
        le=1,
    )
    pictures: int = option(16, "people, and at most 12 frames, on the page", ge=0)


@dataclass(frozen=True, kw_only=True)
class FindConfig:
    """What counts as the person, and what is shown of it. How the source is gone through stands in `predict`."""

    threshold: float | None = option(
        None, "cosine similarity from which on a sighting matches; null: by the calibration", ge=-1, le=1
    )
    false_match_rate: float = option(
        0.01, "share of sightings of other people that may match; the calibrated threshold follows from it", gt=0, lt=1
    )
    calibration: str | None = option(
        None,
        "where similarities of different people come from: null, the re-ID run, else the source; source: people of "
        "one frame; a run folder or calibration.json of an evaluation",
    )
    search: Search = option("auto", "exact, faiss, or auto: faiss from a million sightings on, if installed")
    gap_s: float = option(2.0, "seconds between two matches of one appearance, at most", ge=0)
    topk: int = option(48, "sightings with a picture on the page", ge=1, le=500)
    clips: int = option(0, "so many of the most similar appearances are cut out as videos", ge=0)


@dataclass(frozen=True, kw_only=True)
class SearchRun(TrainConfig):
    """Only device and workers do anything here."""

    engine: Literal["person_search"] = option()
    workers: int = option(help="processes that read frames", ge=0)


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """One evaluation of person search, or the two models on one's own pictures."""

    model: SearchModel = option()
    dataset: SearchDataset = option()
    evaluation: SearchEvaluation = option()
    train: SearchRun = option()
    predict: PredictConfig = option(factory=PredictConfig)
    find: FindConfig = option(factory=FindConfig)
