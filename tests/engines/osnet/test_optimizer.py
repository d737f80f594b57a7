"""Optimizers: each gets what the config says."""

from typing import Any

import pytest
import torch

from watchme.config.schema import OptimizerConfig
from watchme.core.errors import ConfigError
from watchme.engines.osnet.lr_scheduler import set_learning_rate
from watchme.engines.osnet.optimizer import build_optimizer


@pytest.mark.parametrize(
    ("config", "kind", "settings"),
    [
        (OptimizerConfig(name="sgd", lr=0.1, nesterov=True), torch.optim.SGD, {"nesterov": True, "momentum": 0.9}),
        (OptimizerConfig(name="sgd", lr=0.1, dampening=0.1), torch.optim.SGD, {"dampening": 0.1}),
        (OptimizerConfig(name="adam", lr=0.1, eps=1e-6), torch.optim.Adam, {"eps": 1e-6, "amsgrad": False}),
        (OptimizerConfig(name="amsgrad", lr=0.1), torch.optim.Adam, {"amsgrad": True}),
        (OptimizerConfig(name="adamw", lr=0.1, amsgrad=True, beta2=0.99), torch.optim.AdamW, {"betas": (0.9, 0.99)}),
        (OptimizerConfig(name="rmsprop", lr=0.1, alpha=0.9), torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.9}),
        (OptimizerConfig(name="radam", lr=0.1), torch.optim.RAdam, {"weight_decay": 5e-4}),
    ],
)
def test_optimizers_get_what_the_config_says(
    config: OptimizerConfig, kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), config)
    assert type(optimizer) is kind
    assert {name: optimizer.param_groups[0][name] for name in settings} == settings


def test_staged_learning_rate_slows_all_but_the_new_layers() -> None:
    model = torch.nn.Sequential()
    model.add_module("body", torch.nn.Linear(2, 2))
    model.add_module("classifier", torch.nn.Linear(2, 2))
    config = OptimizerConfig(name="sgd", lr=0.1)
    optimizer = build_optimizer(model, config, new_layers=["classifier"], base_lr_mult=0.1)
    set_learning_rate(optimizer, 1.0)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    assert rates[id(model.get_parameter("body.weight"))] == pytest.approx(0.1)
    assert rates[id(model.get_parameter("classifier.weight"))] == 1.0
    with pytest.raises(ConfigError, match="names no module"):
        build_optimizer(model, config, new_layers=["clasifier"])
