"""Config of the stand-in engine."""

from dataclasses import dataclass
from typing import Literal

from watchme.config.schema import DatasetConfig, ModelConfig, RunConfig, option


@dataclass(frozen=True, kw_only=True)
class StandinModel(ModelConfig):
    """A given learning curve in place of a model."""

    engine: Literal["standin"] = option()
    epoch_s: float = option(0.0, "seconds an epoch takes", ge=0)
    waits_for: int = option(0, "trial 0 ends only when so many other trials have finished", ge=0)
    best_lr: float = option(0.01, "learning rate with the highest curve", gt=0)
    fault: Literal["none", "exception", "memory", "undefined", "sigkill", "exit"] = option("none")
    fault_epoch: int = option(2, ge=1)
    fault_above: float = option(0.0, "only with a learning rate above this", ge=0)
    one_camera: list[int] = option(factory=list, help="trials that measure val_same_camera/map")
    fault_trials: list[int] = option(factory=list, help="only in these trials; empty: in all")


@dataclass(frozen=True, kw_only=True)
class NoDataset(DatasetConfig):
    """No data."""

    task: Literal["none"] = option()  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Config of the stand-in engine."""

    model: StandinModel = option()
    dataset: NoDataset = option()
