"""Optimizer from the config: parameter groups, and torch.optim's class that `optimizer.name` names."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from watchme.config.schema import OptimizerConfig
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
        model: On its device. All its parameters are optimised, since those that are fixed at first may learn later.
        config: One vocabulary for all optimizers; `momentum` is beta1 of the Adam family.
        new_layers: Modules (prefixes of names) with the full learning rate; the others get `base_lr_mult` of it.
        base_lr_mult: Only used with `new_layers` (torchreid's staged learning rate).
        proxies: Parameters of the loss, always with the full learning rate.

    Raises:
        ConfigError: If `new_layers` names a module that is not there.
    """
    groups = _parameter_groups(model, new_layers, base_lr_mult)
    if proxies:
        groups.append({"params": list(proxies), "scale": 1.0})
    betas = (config.momentum, 0.999 if config.beta2 is None else config.beta2)
    eps = 1e-8 if config.eps is None else config.eps
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.name == "rmsprop":
        alpha = 0.99 if config.alpha is None else config.alpha
        return torch.optim.RMSprop(groups, alpha=alpha, eps=eps, momentum=config.momentum, **shared)
    if config.name == "radam":
        return torch.optim.RAdam(groups, betas=betas, eps=eps, **shared)
    # One kernel for all parameters; radam and rmsprop have none, and take torch's foreach kernels on a GPU.
    shared["fused"] = True if next(model.parameters()).is_cuda else None
    if config.name == "sgd":
        dampening, nesterov = config.dampening or 0.0, bool(config.nesterov)
        return torch.optim.SGD(groups, momentum=config.momentum, dampening=dampening, nesterov=nesterov, **shared)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    amsgrad = config.name == "amsgrad" or bool(config.amsgrad)
    return kind(groups, betas=betas, eps=eps, amsgrad=amsgrad, **shared)


def _parameter_groups(model: nn.Module, new_layers: Sequence[str], base_lr_mult: float) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    for layer in new_layers:
        if not any(name.startswith(layer + ".") or name == layer for name, _ in named):
            raise ConfigError([Problem("train.new_layers", "names no module of the model", repr(layer))])
    if not new_layers:
        return [{"params": [value for _, value in named], "scale": 1.0}]
    prefixes = tuple(f"{layer}." for layer in new_layers)
    return [
        {"params": [value for name, value in named if not name.startswith(prefixes)], "scale": base_lr_mult},
        {"params": [value for name, value in named if name.startswith(prefixes)], "scale": 1.0},
    ]


def load_optimizer_state(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state, which may be of another device: whether kernels are fused is this device's choice.

    Raises:
        ValueError: If the state is of other parameter groups.
    """
    own = [group.get("fused") for group in optimizer.param_groups]
    saved: list[dict[str, Any]] = state["param_groups"]
    if len(own) == len(saved):
        groups = [
            {**group, "fused": fused} if "fused" in group else group for group, fused in zip(saved, own, strict=True)
        ]
        state = {**state, "param_groups": groups}
    optimizer.load_state_dict(state)
