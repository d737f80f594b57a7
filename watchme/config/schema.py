"""The typed config: what both engines share. Each engine adds its own in `engines/<name>/config.py`.

A field's metadata (see `option`) holds its bounds and one line of help; `validation.py` walks the fields. The values of
a run come from conf/; a default here is for code that builds a config itself, and tests/test_conf.py holds it equal to
that of conf/. Where recipes differ there is none.
Nothing here may import torch, or anything that takes long to import.
"""

from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

from watchme.config.demo_world import DemoWorldConfig
from watchme.config.devices import parse_device

__all__ = ["DemoWorldConfig", "Mode", "RunConfig", "option"]

Mode = Literal["train", "evaluate", "check", "export", "search", "predict", "find", "embed"]


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    factory: Any = MISSING,
) -> Any:
    """Declare a config field with its bounds (ge: >=, gt: >, le: <=, lt: <) and a line of help.

    Bounds also hold for each number of a list.
    """
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    metadata = {"help": help, **{name: value for name, value in bounds.items() if value is not None}}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What is trained. `engine` routes the run; `family` is what sibling groups take from it."""

    engine: str = option(help="folder below watchme/engines that runs this model")
    name: str = option(help="architecture, in the library's own spelling")
    weights: str | None = option(
        None, "initial weights: a published name, a run folder, a file, an address; null: random"
    )
    family: dict[str, Any] = option(
        factory=dict, help="learning rates, momenta, objective, output folder of this family"
    )


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """What is trained on. `task` says which engines can read it."""

    task: Literal["detection", "reid", "search"] = option(help="detection, reid or search")
    name: str = option(help="shown in run names and reports")
    root: str | None = option(None, "folder of the dataset")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One vocabulary for both engines; an engine refuses what its library cannot do.

    `momentum` is the momentum of sgd and rmsprop and beta1 of the Adam family, as in ultralytics.
    """

    name: Literal["auto", "sgd", "adam", "adamw", "amsgrad", "rmsprop", "radam"] = option()
    lr: float = option(help="initial learning rate", gt=0)
    weight_decay: float = option(5e-4, "L2 penalty (decoupled for adamw)", ge=0)
    momentum: float = option(0.9, "momentum (sgd, rmsprop) or beta1 (Adam family)", ge=0, lt=1)
    beta2: float | None = option(None, "second-moment decay of the Adam family; null is 0.999", gt=0, lt=1)
    eps: float | None = option(None, "denominator term; null is the library's 1e-8", gt=0)
    nesterov: bool | None = option(None, "sgd only")
    dampening: float | None = option(None, "sgd only", ge=0)
    amsgrad: bool | None = option(None, "adam and adamw only")
    alpha: float | None = option(None, "rmsprop only: smoothing constant; null is 0.99", gt=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """How the learning rate changes over the epochs."""

    name: Literal["constant", "linear", "cosine", "cosine_restarts", "single_step", "multi_step"] = option()
    final_lr_ratio: float | None = option(None, "linear and cosine: last learning rate over the first", ge=0, le=1)
    eta_min: float | None = option(None, "cosine_restarts: lowest learning rate", ge=0)
    restart_epochs: int | None = option(None, "cosine_restarts: epochs of a cycle", ge=1)
    step_size: int | None = option(None, "single_step: epochs between decays", ge=1)
    milestones: list[int] | None = option(None, "multi_step: epochs at which it decays", ge=1)
    gamma: float | None = option(None, "single_step and multi_step: factor of a decay", gt=0, le=1)
    warmup_epochs: float = option(0.0, "epochs over which the learning rate rises linearly", ge=0)
    warmup_momentum: float | None = option(None, "YOLO: momentum at the start of warm-up", ge=0, lt=1)
    warmup_bias_lr: float | None = option(None, "YOLO: learning rate of biases at the start", ge=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, where and with what precision."""

    engine: str = option(help="the engine this group belongs to")
    epochs: int = option(100, "passes over the training set", ge=1)
    batch_size: int = option(16, "images in an optimizer's batch, over all devices")
    workers: int | None = option(help="processes that load data", ge=0)
    device: str | int | list[int] = option("auto", "auto, cpu, cuda, mps, a GPU's number, or a list of them")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = option("auto", "auto looks at the hardware")
    patience: int = option(help="stop after so many validations without a better objective; 0 never", ge=0)
    seed: int = option(0, ge=0, le=2**32 - 1)
    deterministic: bool | Literal["auto"] = option(True, "deterministic operations, where the library has them")
    resume: str | None = option(None, "run folder or checkpoint to go on from, into the same folder")
    save_period: int = option(0, "also keep a checkpoint every so many epochs; 0 keeps best and last", ge=0)
    eval_every: int = option(1, "epochs between validations", ge=1)
    limit_batches: int | float | None = option(
        None, "to try things out: batches of an epoch and of an evaluation, a count (2) or a share (0.1)", gt=0
    )
    profile: bool = option(False, "profile some steps: profile/trace.json.gz, and a table of the slowest operators")
    detect_anomaly: bool = option(False, "stop at the first NaN of a gradient and name its operation; slow")

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", parse_device(self.device))


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Where metrics go besides metrics.jsonl, which is always written."""

    tensorboard: bool = option(False, "write TensorBoard event files into the run folder")
    wandb: bool = option(False, "log to Weights & Biases")
    mode: Literal["auto", "online", "offline", "disabled"] = option(
        "auto", "W&B: auto is online where a key is set, else offline"
    )
    project: str = option("watchme-training", "W&B project")
    entity: str | None = option(None, "W&B team or user")
    tags: list[str] = option(factory=list, help="W&B tags")
    notes: str | None = option(None, "W&B notes")
    group: str | None = option(None, "W&B group; null is the study for a sweep's trial, else none")
    job_type: str | None = option(None, "W&B job type; null is the mode: train or evaluate")
    images: int = option(16, "pictures logged of each kind", ge=0)
    every: int = option(50, "steps between points within an epoch: loss, learning rate, images/s; 0: none", ge=0)
    charts: bool = option(True, "PR, F1, CMC and confusion as charts of the trackers themselves, one for all runs")
    embeddings: int = option(500, "TensorBoard: re-ID crops in the projector; 0: none", ge=0)
    code: bool = option(True, "W&B: commit, diff of what is not committed, and the list of packages")
    console: bool = option(True, "W&B: train.log as it grows, in the Logs tab")
    weights: bool = option(True, "W&B: best and last weights as artifacts; a sweep's share one with the alias best")
    dataset: Literal["none", "reference", "upload"] = option(
        "reference", "W&B: an artifact with the dataset's fingerprint; reference: its place alone, upload: its files"
    )
    alerts: list[Literal["failed", "finished", "worse", "undefined"]] = option(
        factory=lambda: ["failed", "undefined"],
        help="W&B alerts: run failed, finished, ended worse than it began; a loss or the objective is undefined (NaN)",
    )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Set by the sweeper: the Optuna trial that this run is."""

    storage: str = option(help="URL of the study's storage")
    study: str = option(help="name of the study")
    number: int = option(help="number of the trial in the study", ge=0)
    trial_id: int = option(help="the storage's id of the trial", ge=0)
    prune: bool = option(True, "report epochs to the pruner")
    keep_pruned_weights: bool = option(True, "keep the weights of a pruned trial")
    objectives: list[str] = option(factory=list, help="metrics that the sweep optimises; empty: `objective`")
    parameters: list[str] = option(factory=list, help="keys and groups that the sweep varies")


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """How a dataset is checked: by mode=check, and in short before each training."""

    before_training: bool = option(True, "look at names, labels and splits before each training")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, whole. An engine's config narrows the types of its sections."""

    mode: Mode = option("train")
    checkpoint: str | None = option(None, "mode=evaluate and export: the weights")
    source: str | int | None = option(
        None, "mode=predict, find and embed: an image, folder, glob, video, list of paths, camera number or address"
    )
    detector: str | None = option(None, "mode=search, predict and find: run folder or weights of the detector")
    reid: str | None = option(None, "mode=search, predict, find and embed: run folder or weights of the re-ID model")
    query: str | list[str] | None = option(None, "mode=find: a picture of the person, several, or a folder of them")
    query_person: int | None = option(
        None, "mode=find: who of several people in a query picture, from 1 at the left; null: the largest", ge=1
    )
    index: str | None = option(None, "mode=find: folder that keeps what was seen in source, for further queries")
    blur_others: bool = option(False, "mode=find: blur everybody but the person in pictures and clips")
    objective: str = option(help="metric that best checkpoints, early stopping and sweeps use")
    output_root: str = option("outputs", "folder of run folders")
    model: ModelConfig = option()
    dataset: DatasetConfig = option()
    optimizer: OptimizerConfig = option()
    scheduler: SchedulerConfig = option()
    augmentation: Any = option()
    loss: Any = option()
    evaluation: Any = option()
    check: CheckConfig = option(factory=CheckConfig)
    export: Any = option(None)
    train: TrainConfig = option()
    tracker: TrackerConfig = option()
    trial: TrialConfig | None = option(None)
