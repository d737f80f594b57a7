"""Config of the constant engine."""

from dataclasses import dataclass
from typing import Literal

from watchme.config.schema import DatasetConfig, ModelConfig, RunConfig, option


@dataclass(frozen=True, kw_only=True)
class CurveModel(ModelConfig):
    """A given curve in place of a model."""

    engine: Literal["constant"] = option()
    curve: list[float] = option(help="objective by epoch", ge=0, le=1)
    fail_at: int | None = option(None, "epoch at which training breaks", ge=1)
    before: float | None = option(None, "objective before the first epoch", ge=0, le=1)
    refuse: bool = option(False, "refuse to train before anything is written")
    kill_at: int | None = option(None, "epoch at which the process dies before its checkpoint", ge=1)
    interrupt_at: int | None = option(None, "epoch after which it is interrupted", ge=1)


@dataclass(frozen=True, kw_only=True)
class NoDataset(DatasetConfig):
    """No data."""

    task: Literal["none"] = option()  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Config of the constant engine."""

    model: CurveModel = option()
    dataset: NoDataset = option()
