"""The keys of `hydra.sweeper` as a dataclass."""

from dataclasses import dataclass
from typing import Any, Literal

from watchme.config.schema import option

Sampler = Literal["grid", "tpe", "random", "cmaes", "nsgaii", "gp"]
Pruner = Literal["none", "median", "asha", "hyperband", "threshold", "patient"]


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """`hydra.sweeper`: what is searched, how, by how many slots, and what happens when a trial breaks."""

    study_name: str | None = option(None, "null: from the sweeper option, the model, the dataset and the rest")
    storage: str | None = option(None, "null: <sweep dir>/study.db; a .db file, a .journal file, or a database's URL")
    model_engine: str | None = option(None, "the engine whose models the search space is for; null: any")
    sampler: Sampler | None = option(None, "null: grid where every swept value is listed, else tpe")
    sampler_options: dict[str, Any] = option(factory=dict, help="arguments of Optuna's sampler")
    pruner: Pruner = option("none", "what ends trials early")
    pruner_options: dict[str, Any] = option(factory=dict, help="arguments of Optuna's pruner")
    seed: int | None = option(None, "of the sampler; null: another one each time", ge=0)
    n_trials: int | None = option(None, "finished trials in all, over all processes; null: the grid, else 20", ge=1)
    n_jobs: int = option(1, "slots: trials at the same time", ge=1)
    processes: bool | None = option(None, "run trials in processes of their own; null: where n_jobs > 1")
    gpus: str | list[int] = option("auto", "GPUs that are shared out to the slots: auto, none, or a list of numbers")
    max_failures: int | None = option(None, "end the sweep after so many failed trials; null: never", ge=1)
    timeout_s: float | None = option(None, "start no more trials after so many seconds", gt=0)
    objectives: list[str] | None = option(None, "canonical metric names; null: the config's `objective` alone")
    directions: list[Literal["maximize", "minimize"]] | None = option(
        None, "one an objective; null: minimize for losses and times, maximize for the rest"
    )
    tune_on_test: bool = option(False, "allow a search that selects on the test split")
    params: dict[str, Any] = option(factory=dict, help="search space: key -> sweep, as on the command line")
    custom_search_space: str | None = option(None, "module.function(config, trial) that adds conditional parameters")
    points_to_evaluate: list[dict[str, Any]] = option(factory=list, help="parameters that are tried first")
    keep_pruned_weights: bool = option(True, "keep the weights of pruned trials")
    heartbeat_s: float = option(10.0, "seconds between the signs of life of running trials", gt=0)
    grace_s: float = option(60.0, "silence after which another machine's trial counts as lost", gt=0)
    console: Literal["auto", "table", "lines", "trials"] = option(
        "auto", "a live table, a line an event, or the trials' own output; auto: table on a terminal"
    )
    report: bool = option(True, "draw report/ at the end")
