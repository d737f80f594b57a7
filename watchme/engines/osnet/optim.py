"""Optimizer and learning-rate schedule from the config."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from watchme.config.schema import OptimizerConfig, SchedulerConfig
from watchme.core.errors import ConfigError, Problem


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    new_layers: Sequence[str] = (),
    base_lr_mult: float = 1.0,
    proxies: Sequence[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Build the optimizer that `optimizer.name` names.

    Args:
        model: Its parameters that require a gradient, and those that may later, are optimised.
        config: One vocabulary for all optimizers; `momentum` is beta1 of the Adam family.
        new_layers: Modules (prefixes of names) with the full learning rate; the others get `base_lr_mult` of it.
        base_lr_mult: Only used with `new_layers` (torchreid's staged learning rate).
        proxies: Parameters of the loss, always with the full learning rate.

    Raises:
        ConfigError: If `new_layers` names a module that is not there.
    """
    named = [(name, value) for name, value in model.named_parameters()]
    groups: list[dict[str, object]] = []
    if new_layers:
        for layer in new_layers:
            if not any(name.startswith(layer + ".") or name == layer for name, _ in named):
                raise ConfigError([Problem("train.new_layers", "names no module of the model", repr(layer))])
        new = [value for name, value in named if name.startswith(tuple(f"{layer}." for layer in new_layers))]
        chosen = {id(value) for value in new}
        groups.append({"params": [value for _, value in named if id(value) not in chosen], "scale": base_lr_mult})
        groups.append({"params": new, "scale": 1.0})
    else:
        groups.append({"params": [value for _, value in named], "scale": 1.0})
    if proxies:
        groups.append({"params": list(proxies), "scale": 1.0})
    lr, decay = config.lr, config.weight_decay
    betas = (config.momentum, 0.999 if config.beta2 is None else config.beta2)
    eps = 1e-8 if config.eps is None else config.eps
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr,
            momentum=config.momentum,
            weight_decay=decay,
            dampening=config.dampening or 0.0,
            nesterov=bool(config.nesterov),
        )
    if config.name == "rmsprop":
        alpha = 0.99 if config.alpha is None else config.alpha
        return torch.optim.RMSprop(groups, lr, alpha=alpha, eps=eps, weight_decay=decay, momentum=config.momentum)
    if config.name == "radam":
        return torch.optim.RAdam(groups, lr, betas=betas, eps=eps, weight_decay=decay)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr, betas=betas, eps=eps, weight_decay=decay, amsgrad=bool(config.amsgrad))
    amsgrad = config.name == "amsgrad" or bool(config.amsgrad)
    return torch.optim.Adam(groups, lr, betas=betas, eps=eps, weight_decay=decay, amsgrad=amsgrad)


def learning_rate_factor(config: SchedulerConfig, epoch: int, epochs: int, lr: float, progress: float = 0.0) -> float:
    """Factor of the initial learning rate: a pure function, so that a resumed run has it without any state.

    Args:
        config: The schedule.
        epoch: From 0.
        epochs: How many there are.
        lr: Initial learning rate, which `eta_min` is held against.
        progress: Share of the epoch that is done; used by warm-up alone, all else goes by whole epochs as in torch.
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
