"""Schema of the OSNet engine's config; `config_rules.py` holds what else a valid config must fulfil."""

from dataclasses import dataclass
from typing import Literal, get_args

from watchme.config.schema import DatasetConfig, DemoWorldConfig, ModelConfig, RunConfig, TrainConfig, option

# Metric losses that classify identities by proxies of their own, beside or instead of the model's classifier.
OWN_HEAD = ("arcface", "cosface")
Architecture = Literal["osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25", "osnet_ibn_x1_0", "osnet_ain_x1_0"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)

Format = Literal[
    "market1501",
    "dukemtmcreid",
    "msmt17",
    "cuhk03",
    "cuhk01",
    "cuhk02",
    "viper",
    "grid",
    "prid",
    "ilids",
    "sensereid",
    "cuhksysu",
    "mars",
    "dukemtmcvidreid",
    "prid2011",
    "ilidsvid",
]


@dataclass(frozen=True, kw_only=True)
class OsnetModel(ModelConfig):
    """An OSNet of torchreid."""

    engine: Literal["osnet"] = option()
    name: Architecture = option(help="torchreid's name")
    pretrained: bool | None = option(None, "default of `weights`: true: ImageNet's; false: random; null: by the data")
    num_classes: int | None = option(None, "size of the classifier; null: one per training identity", ge=2)
    bnneck: bool = option(False, "batch normalisation between embedding and classifier (Luo et al., BNNeck, 2019)")
    keep_classifier: bool = option(False, "take the classifier over from `weights` where its size fits")
    min_matched: float = option(0.9, "least share of the backbone's tensors that `weights` must fill", ge=0, le=1)
    freeze: list[str] = option(factory=list, help="patterns of parameter names that are not trained, e.g. conv1*")


@dataclass(frozen=True, kw_only=True)
class ReidDataset(DatasetConfig):
    """Crops of people with identity and camera."""

    task: Literal["reid"] = option()
    format: Format = option("market1501", "how the folder is read: market1501 naming, or a dataset of torchreid's")
    sources: list[str] | None = option(None, "datasets to train on; null: this one alone")
    targets: list[str] | None = option(None, "datasets to test on; null: the sources")
    roots: dict[str, str] | None = option(None, "folders of datasets that are not below root, by name")
    pattern: str | dict[str, str] | None = option(
        None, "names of your own: how paths say id, camera, tracklet, e.g. '{id}_{camera}_{*}'; by name for several"
    )
    first_id: int = option(1, "market1501 naming: 0 reads 0000 as a person, not as a distractor", ge=0, le=1)
    split_id: int = option(0, "which of its splits, for datasets that have several", ge=0)
    cuhk03_labeled: bool = option(False, "cuhk03: boxes drawn by hand instead of detected ones")
    cuhk03_classic_split: bool = option(False, "cuhk03: a split of 2014 (split_id) instead of the one of 2017")
    market1501_500k: bool = option(False, "market1501: add the 500,000 distractors in its folder images")
    load_train_targets: bool = option(False, "adapt batch normalisation to each target's training images")
    tracklets: bool = option(False, "train and test on tracklets: the images of a person that one camera took in a row")
    seq_len: int = option(15, "tracklets: images taken of each", ge=1)
    sample_method: Literal["evenly", "random", "all"] = option("evenly", "tracklets: which images are taken")
    k_tfm: int = option(1, "augmented views of each image in a batch", ge=1)
    height: int = option(256, "height that the network sees, pixels", ge=16)
    width: int = option(128, "width that the network sees, pixels", ge=16)
    val_identities: float = option(
        0.1, "identities of the training set held out for validation: a share below 1, or a count; 0: none", ge=0
    )
    select_on_test: bool = option(False, "with val_identities=0: select the best checkpoint on the test split")
    combineall: bool = option(False, "train on query and gallery too (no test is possible then)")
    cache: Literal["none", "ram", "gpu"] = option("none", "keep decoded, resized images in memory, or on the GPU")
    demo: DemoWorldConfig | None = option(None, "parameters of the demo world, where root is null")

    @property
    def images_per_draw(self) -> int:
        """Images in a batch for each that the sampler draws; with sample_method=all, tracklets differ."""
        return self.k_tfm * (self.seq_len if self.tracklets else 1)


@dataclass(frozen=True, kw_only=True)
class ReidAugmentation:
    """torchreid's augmentations in its order, with their parameters."""

    engine: Literal["osnet"] = option()
    random_flip: float = option(0.5, "horizontal flip, probability", ge=0, le=1)
    random_crop: float = option(help="enlarge and crop, probability", ge=0, le=1)
    crop_scale: float = option(1.125, "random_crop: factor by which the image is enlarged", ge=1)
    random_patch: float = option(0.0, "paste a patch of another image, probability", ge=0, le=1)
    patch_area: tuple[float, float] = option((0.01, 0.5), "random_patch: least and largest share of the image")
    patch_ratio: float = option(0.1, "random_patch: least aspect ratio; the largest is its inverse", gt=0, le=1)
    color_jitter: float = option(0.0, "change of brightness and contrast, probability", ge=0, le=1)
    brightness: float = option(0.2, "color_jitter: +/- factor", ge=0, lt=1)
    contrast: float = option(0.15, "color_jitter: +/- factor", ge=0, lt=1)
    random_gray_scale: float = option(0.0, "drop the colours, probability", ge=0, le=1)
    random_erase: float = option(0.0, "erase a rectangle (Zhong et al., AAAI 2020), probability", ge=0, le=1)
    erase_area: tuple[float, float] = option((0.02, 0.4), "random_erase: least and largest share of the image")
    erase_ratio: float = option(0.3, "random_erase: least aspect ratio; the largest is its inverse", gt=0, le=1)
    normalize: bool = option(True, "subtract ImageNet's mean, divide by its standard deviation")


@dataclass(frozen=True, kw_only=True)
class ReidLoss:
    """Softmax, batch-hard triplet and one more metric loss, each with its weight."""

    engine: Literal["osnet"] = option()
    weight_x: float = option(1.0, "weight of softmax", ge=0)
    weight_t: float = option(1.0, "weight of triplet", ge=0)
    label_smoothing: float = option(0.1, "softmax: share of the target spread over all identities", ge=0, lt=1)
    margin: float = option(0.3, "triplet: margin of Euclidean distances", ge=0)
    metric: Literal["circle", "arcface", "cosface", "center"] | None = option(None, "one more loss; null: none")
    weight_m: float | None = option(None, "weight of metric", gt=0)
    metric_margin: float | None = option(None, "circle: relaxation; arcface: radians; cosface: cosine", ge=0)
    metric_scale: float | None = option(None, "circle, arcface, cosface: factor of similarities", gt=0)
    center_rate: float | None = option(None, "center: share of the way that centers move in a step", gt=0, le=1)


@dataclass(frozen=True, kw_only=True)
class ReidEvaluation:
    """How embeddings are compared."""

    engine: Literal["osnet"] = option()
    batch_size: int | None = option(None, "images in a batch of evaluation; null: 512 on a GPU, else 100", ge=1)
    precision: Literal["fp32", "auto", "fp16", "bf16"] = option(
        "fp32", "of evaluation; only fp32 gives the same metrics on every machine"
    )
    distance: Literal["euclidean", "cosine"] = option("euclidean", "euclidean is squared, as in torchreid")
    normalize: bool = option(False, "divide embeddings by their L2 norm first")
    ranks: list[int] = option(factory=lambda: [1, 5, 10, 20], help="ranks of the CMC curve to report", ge=1)
    metric: Literal["market1501", "cuhk03"] = option("market1501", "cuhk03: single-gallery-shot CMC")
    rerank: bool = option(False, "also report k-reciprocal re-ranking, as .../map_reranked")
    flip_test: bool = option(False, "average the embeddings of an image and its mirror image")
    visrank: int = option(8, "queries whose ranked results are drawn at the end; 0: none", ge=0)
    tsne: int = option(12, "identities in the t-SNE of embeddings that is drawn at the end; 0: none", ge=0)
    visrank_topk: int = option(10, "gallery images a query", ge=1)
    visrank_every: int = option(0, "also draw those of the validation every so many epochs; 0: never", ge=0)
    save_features: bool = option(False, "keep embeddings, identities, cameras and files as features.npz")


@dataclass(frozen=True, kw_only=True)
class OsnetTrain(TrainConfig):
    """What only OSNet training has."""

    engine: Literal["osnet"] = option()
    batch_size: int = option(32, "images in an optimizer's batch, over all devices; -1: what fits one GPU", ge=-1)
    workers: int | None = option(help="processes that load data; null: as cores and shared memory allow", ge=0)
    deterministic: bool | Literal["auto"] = option("auto", "auto: on a CPU; on a GPU it is slow")
    tf32: bool = option(True, "precision=fp32 on a GPU: train in TF32, which is several times as fast")
    processes: int | None = option(None, "processes that train together; null: one for each device listed", ge=1)
    sampler: Literal["random", "identity", "domain", "dataset"] = option(
        "identity", "identity: P identities x num_instances; domain, dataset: equal parts of cameras, of sources"
    )
    num_instances: int = option(4, "sampler=identity: images of an identity in a batch", ge=2)
    num_cams: int | None = option(1, "sampler=domain: cameras in a batch; null: all", ge=1)
    num_datasets: int | None = option(1, "sampler=dataset: source datasets in a batch; null: all", ge=1)
    accumulate: int = option(1, "batches whose gradients are summed before a step", ge=1)
    clip_grad_norm: float | None = option(None, "largest norm of the gradient", gt=0)
    ema_decay: float | None = option(None, "evaluate and keep an exponential moving average of the weights", gt=0, lt=1)
    fixbase_epochs: int = option(0, "epochs in which only open_layers are trained", ge=0)
    open_layers: list[str] = option(factory=lambda: ["classifier"], help="modules trained during fixbase_epochs")
    new_layers: list[str] = option(factory=list, help="modules with the full learning rate; all others: base_lr_mult")
    base_lr_mult: float = option(0.1, "factor of the learning rate outside new_layers, where these are named", gt=0)
    channels_last: bool = option(True, "memory layout in which convolutions are faster")
    sync_bn: bool = option(False, "batch normalisation sees the batch of all GPUs instead of one GPU's share")
    compile: bool | Literal["auto", "off", "cudagraphs", "default", "reduce-overhead"] = option(
        "auto", "cudagraphs, or a mode of torch.compile; auto: cudagraphs on one GPU, else off"
    )
    log_every: int = option(0, "batches between lines in the log; 0: a line an epoch alone", ge=0)
    keep_last: int = option(3, "how many of the checkpoints of save_period are kept", ge=1)


@dataclass(frozen=True, kw_only=True)
class OsnetExport:
    """What mode=export makes beside model.pth.tar, and how it is checked. All of it runs on the CPU."""

    engine: Literal["osnet"] = option()
    formats: list[str] = option(factory=lambda: ["torchscript", "onnx"], help="torchscript, onnx")
    fp16: bool = option(False, "also a half-precision ONNX file, its loss measured")
    int8: bool = option(False, "also a statically quantised ONNX file, its loss measured")
    max_difference: float = option(1e-5, "largest difference of L2-normalised embeddings before it is refused", gt=0)
    max_loss: float = option(0.03, "largest loss of mAP by fp16 and int8 before the export is refused", ge=0)
    split: Literal["val", "test"] = option("val", "people on whom it is checked: those held out, or query and gallery")
    images: int = option(64, "images on which formats are compared with the trained model", ge=1)
    fc_seeds: int = option(3, "random embedding layers tried: what a loader that drops fc costs; 0: none", ge=0)
    calibration_images: int = option(128, "int8: training images that set the ranges", ge=1)
    latency_batches: list[int] = option(factory=lambda: [1, 16], help="batch sizes that are timed; []: none", ge=1)
    latency_rounds: int = option(20, "calls that are timed of each format and batch", ge=1)
    threads: int | None = option(None, "threads of the timed calls; null: as torch has them", ge=1)
    place: str = option("src/infrastructure/osnet/client", "where the backend keeps the weights, below its folder")


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """One OSNet run."""

    model: OsnetModel = option()
    dataset: ReidDataset = option()
    augmentation: ReidAugmentation = option()
    loss: ReidLoss = option()
    evaluation: ReidEvaluation = option()
    export: OsnetExport = option()
    train: OsnetTrain = option()
