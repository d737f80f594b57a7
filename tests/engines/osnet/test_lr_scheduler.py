"""Schedules against torch's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from watchme.config.schema import SchedulerConfig
from watchme.engines.osnet.lr_scheduler import learning_rate_factor

SCHEDULES: list[tuple[SchedulerConfig, Callable[[torch.optim.Optimizer], Any]]] = [
    (
        SchedulerConfig(name="single_step", step_size=3, gamma=0.1),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.1),
    ),
    (
        SchedulerConfig(name="multi_step", milestones=[2, 5], gamma=0.5),
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5], 0.5),
    ),
    (
        SchedulerConfig(name="cosine", final_lr_ratio=0.0),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
    ),
    (
        SchedulerConfig(name="cosine_restarts", restart_epochs=4, eta_min=0.01),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4, eta_min=0.01),
    ),
    (
        SchedulerConfig(name="linear", final_lr_ratio=0.01),
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 10),
    ),
]


@pytest.mark.parametrize(("schedule", "reference"), SCHEDULES, ids=lambda value: getattr(value, "name", ""))
def test_schedules_equal_torchs(schedule: SchedulerConfig, reference: Callable[[torch.optim.Optimizer], Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = reference(optimizer)
    for epoch in range(10):
        ours = 0.1 * learning_rate_factor(schedule, epoch, 10, 0.1)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_linearly_and_ends_at_the_full_rate() -> None:
    schedule = SchedulerConfig(name="constant", warmup_epochs=2)
    rates = [learning_rate_factor(schedule, epoch, 10, 0.1, share) for epoch in range(3) for share in (0.25, 0.75)]
    assert rates == pytest.approx([0.125, 0.375, 0.625, 0.875, 1.0, 1.0])
