"""Learning-rate schedules with warm-up, as a pure function of the epoch."""

import math

import torch

from watchme.config.schema import SchedulerConfig


def learning_rate_factor(config: SchedulerConfig, epoch: int, epochs: int, lr: float, progress: float = 0.0) -> float:
    """Factor of the initial learning rate: a pure function, so that a resumed run has it without any state.

    `epoch` counts from 0; `progress` is the share of it that is done, which warm-up alone uses: all else goes by whole
    epochs as in torch. `eta_min` is held against the initial learning rate `lr`.
    """
    return _warmup(config, epoch + progress) * _decay(config, epoch, epochs, lr)


def _warmup(config: SchedulerConfig, done: float) -> float:
    if done >= config.warmup_epochs:
        return 1.0
    # Goyal et al., Accurate, Large Minibatch SGD, 2017: linear from near 0.
    return max(done / config.warmup_epochs, 1e-3)


def _decay(config: SchedulerConfig, epoch: int, epochs: int, lr: float) -> float:
    last = 0.0 if config.final_lr_ratio is None else config.final_lr_ratio
    gamma = 0.1 if config.gamma is None else config.gamma
    if config.name == "constant":
        return 1.0
    if config.name == "linear":
        return (1 - epoch / epochs) * (1 - last) + last
    if config.name == "cosine":
        return last + (1 - last) * (1 + math.cos(math.pi * epoch / epochs)) / 2
    if config.name == "cosine_restarts":
        assert config.restart_epochs is not None
        low = (config.eta_min or 0.0) / lr
        phase = (epoch % config.restart_epochs) / config.restart_epochs
        return low + (1 - low) * (1 + math.cos(math.pi * phase)) / 2
    if config.name == "single_step":
        assert config.step_size is not None
        return float(gamma ** (epoch // config.step_size))
    assert config.milestones is not None
    return float(gamma ** sum(epoch >= milestone for milestone in config.milestones))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate to `lr` times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
