"""Conditional parameters: the hook of `hydra.sweeper.custom_search_space`, and an example.

A hook is called once per trial, after the parameters of `hydra.sweeper.params` and of the command line are drawn. It
reads `trial.params` and draws more with `trial.suggest_float`, `suggest_int` or `suggest_categorical`; the name of a
parameter is the key of the override that it becomes. `config` is the composed config of the sweep.

    def three_stages(config: DictConfig, trial: Trial) -> None:
        if trial.params["scheduler"] == "multi_step":
            trial.suggest_float("scheduler.gamma", 0.1, 0.5)

    python train.py -m scheduler=cosine,multi_step hydra.sweeper.custom_search_space=my_module.three_stages
"""

from collections.abc import Callable

from hydra.utils import get_method
from omegaconf import DictConfig
from optuna.trial import Trial

from watchme.core.errors import ConfigError, Problem

Hook = Callable[[DictConfig, Trial], None]


def momentum_with_sgd(config: DictConfig, trial: Trial) -> None:
    """Search `optimizer.momentum` only with SGD; Adam and its kin keep their beta1."""
    if trial.params.get("optimizer", config.optimizer.name) == "sgd":
        trial.suggest_float("optimizer.momentum", 0.8, 0.95)


def load_hook(path: str | None) -> Hook | None:
    """Import the function that `hydra.sweeper.custom_search_space` names.

    Raises:
        ConfigError: If there is none.
    """
    if path is None:
        return None
    try:
        hook: Hook = get_method(path)
    except Exception as error:  # Hydra wraps whatever the import raises
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(
            [Problem("hydra.sweeper.custom_search_space", f"expected module.function(config, trial): {cause}", path)]
        ) from None
    return hook
