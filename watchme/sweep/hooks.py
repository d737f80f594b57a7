"""Conditional parameters: functions for `hydra.sweeper.custom_search_space`.

A hook is called once a trial, after the parameters of `hydra.sweeper.params` and of the command line are drawn. It
reads `trial.params` and draws more with `trial.suggest_float`, `suggest_int` or `suggest_categorical`; the name of a
parameter is the key of the override that it becomes. `config` is the composed config of the sweep.

    def three_stages(config: DictConfig, trial: Trial) -> None:
        if trial.params["scheduler"] == "multi_step":
            trial.suggest_float("scheduler.gamma", 0.1, 0.5)

    python train.py -m scheduler=cosine,multi_step hydra.sweeper.custom_search_space=my_module.three_stages
"""

from omegaconf import DictConfig
from optuna.trial import Trial


def momentum_with_sgd(config: DictConfig, trial: Trial) -> None:
    """Search `optimizer.momentum` only with SGD; Adam and its kin keep their beta1."""
    if trial.params.get("optimizer", config.optimizer.name) == "sgd":
        trial.suggest_float("optimizer.momentum", 0.8, 0.95)
