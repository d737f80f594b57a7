"""Hooks for `hydra.sweeper.custom_search_space`; copied beside train.py."""

from omegaconf import DictConfig
from optuna.trial import Trial


def momentum(config: DictConfig, trial: Trial) -> None:
    """One more parameter."""
    trial.suggest_float("optimizer.momentum", 0.8, 0.9)


def seeds(config: DictConfig, trial: Trial) -> None:
    """Another parameter; breaks in one trial of the study, though not in the check before it, whose number is 0."""
    if trial.number == 1:
        raise KeyError("only here")
    trial.suggest_int("train.seed", 1, 2)


def raises(config: DictConfig, trial: Trial) -> None:
    """Breaks."""
    raise KeyError("always")
