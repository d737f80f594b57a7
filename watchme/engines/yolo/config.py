"""Schema of the YOLO engine's config; `config_rules.py` holds what else a valid config must fulfil."""

from dataclasses import dataclass
from typing import Any, Literal

from watchme.config.schema import DatasetConfig, DemoWorldConfig, ModelConfig, RunConfig, TrainConfig, option


@dataclass(frozen=True, kw_only=True)
class YoloModel(ModelConfig):
    """A detector of ultralytics."""

    engine: Literal["yolo"] = option()
    name: str = option(help="yolo11n, yolov8s, ...; or the path of a model .yaml")
    pretrained: bool | None = option(None, "default of `weights`: true: COCO's; false: random; null: by the data")
    trust: bool = option(False, "load .pt files that run code of their own; only from people whom you trust")
    args: dict[str, Any] = option(factory=dict, help="any other argument of ultralytics, see arguments.py")


@dataclass(frozen=True, kw_only=True)
class DetectionDataset(DatasetConfig):
    """A dataset in YOLO layout."""

    task: Literal["detection"] = option()
    image_size: int = option(640, "side of the square that the network sees, pixels; a multiple of 32", ge=32)
    classes: list[int | str] | None = option(None, "keep only these class ids or names, in this order")
    cache: Literal["none", "ram", "disk"] = option("none", "keep decoded images in memory or beside our copy")
    single_class: bool = option(False, "treat all classes as one")
    fraction: float = option(1.0, "share of the training images that is used", gt=0, le=1)
    demo: DemoWorldConfig | None = option(None, "parameters of the demo world, where root is null")


@dataclass(frozen=True, kw_only=True)
class YoloAugmentation:
    """ultralytics' augmentations, under its own names."""

    engine: Literal["yolo"] = option()
    hsv_h: float = option(0.015, "hue, fraction", ge=0, le=1)
    hsv_s: float = option(0.7, "saturation, fraction", ge=0, le=1)
    hsv_v: float = option(0.4, "brightness, fraction", ge=0, le=1)
    degrees: float = option(0.0, "rotation, +/- degrees", ge=0, le=180)
    translate: float = option(0.1, "translation, +/- fraction", ge=0, le=1)
    scale: float = option(0.5, "scale, +/- gain", ge=0)
    shear: float = option(0.0, "shear, +/- degrees", ge=-180, le=180)
    perspective: float = option(0.0, "perspective, +/- fraction", ge=0, le=0.001)
    flipud: float = option(0.0, "vertical flip, probability", ge=0, le=1)
    fliplr: float = option(0.5, "horizontal flip, probability", ge=0, le=1)
    bgr: float = option(0.0, "swap of red and blue, probability", ge=0, le=1)
    mosaic: float = option(1.0, "mosaic of four images, probability", ge=0, le=1)
    mixup: float = option(0.0, "MixUp, probability", ge=0, le=1)
    cutmix: float = option(0.0, "CutMix, probability", ge=0, le=1)
    copy_paste: float = option(0.0, "copy-paste of segments, probability (needs segment labels)", ge=0, le=1)
    copy_paste_mode: Literal["flip", "mixup"] = option("flip", "how copy_paste places")
    close_mosaic: int = option(10, "epochs at the end without mosaic", ge=0)
    multi_scale: float = option(0.0, "vary the image size by this fraction", ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class YoloLoss:
    """Gains of the parts of the loss."""

    engine: Literal["yolo"] = option()
    box: float = option(7.5, "box regression", ge=0)
    cls: float = option(0.5, "classification", ge=0)
    dfl: float = option(1.5, "distribution focal loss", ge=0)
    cls_pw: float = option(0.0, "power of inverse class frequency as class weight", ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class YoloEvaluation:
    """How a detector is evaluated."""

    engine: Literal["yolo"] = option()
    split: Literal["train", "val", "test"] | None = option(
        None, "mode=evaluate: split to evaluate; null: test, or val where there is no test split"
    )
    confidence: float | None = option(None, "lowest confidence that counts; null: ultralytics' 0.001", ge=0, le=1)
    iou: float = option(0.7, "IoU above which non-maximum suppression drops a box", ge=0, le=1)
    batch_size: int | None = option(
        None, "images in a batch; null: twice train.batch_size, as ultralytics validates while it trains", ge=1
    )
    max_detections: int = option(300, "boxes kept an image", ge=1)
    plots: bool = option(True, "curves, confusion matrix and example predictions as pictures")
    examples: int = option(8, "images drawn with found, missed and false boxes, the greatest loss of F1 first", ge=0)
    augment: bool = option(False, "test-time augmentation")


@dataclass(frozen=True, kw_only=True)
class YoloTrain(TrainConfig):
    """What only YOLO training has."""

    engine: Literal["yolo"] = option()
    batch_size: int = option(16, "images in a batch over all devices; -1: what fits the GPU", ge=-1)
    workers: int = option(help="processes that load data; on a CPU ultralytics loads in the training process", ge=0)
    deterministic: bool = option(True, "deterministic operations, where torch has them")
    nominal_batch_size: int = option(
        64, "gradients are summed until so many images were seen (nbs); -1: those of one batch", ge=-1
    )
    freeze: int | list[int | str] | None = option(None, "first N layers, or layer indices or names, to freeze")
    rect: bool = option(False, "rectangular batches with less padding, not shuffled")
    compile: bool = option(False, "torch.compile")
    dropout: float = option(0.0, "of ultralytics' classifiers; its detectors have none, so only 0", ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class YoloExport:
    """What mode=export makes beside best.pt, and how it is checked; on the CPU, where a format needs no GPU."""

    engine: Literal["yolo"] = option()
    formats: list[str] = option(factory=lambda: ["onnx"], help="formats of ultralytics by its names")
    fp16: bool = option(False, "also a half-precision ONNX file, its loss measured")
    int8: bool = option(False, "also a statically quantised ONNX file, its loss measured")
    max_difference: float = option(1e-3, "largest difference of a confidence before it is refused", gt=0)
    max_box_difference: float = option(0.1, "largest difference of a box, pixels, before it is refused", gt=0)
    max_loss: float = option(0.03, "largest loss of the objective by fp16 and int8 before it is refused", ge=0)
    images: int = option(16, "images of the validation split on which formats are compared", ge=1)
    calibration_images: int = option(64, "int8: training images that set the ranges", ge=1)
    latency_batches: list[int] = option(factory=lambda: [1, 16], help="batch sizes that are timed; []: none", ge=1)
    latency_rounds: int = option(10, "calls that are timed of each format and batch", ge=1)
    threads: int | None = option(None, "threads of the timed calls; null: as torch has them", ge=1)
    place: str = option(
        "src/infrastructure/yolo/projects/person_detection/weights", "where the backend keeps best.pt, below its folder"
    )


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """One YOLO run."""

    model: YoloModel = option()
    dataset: DetectionDataset = option()
    augmentation: YoloAugmentation = option()
    loss: YoloLoss = option()
    evaluation: YoloEvaluation = option()
    export: YoloExport = option()
    train: YoloTrain = option()
