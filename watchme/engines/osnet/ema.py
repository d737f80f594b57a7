"""Exponential moving average (EMA) of a model's weights, which is what is evaluated and kept where it is asked for."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class ExponentialMovingAverage(Generic[Model]):
    """A copy of a model whose weights are an average over its training steps.

    Args:
        model: On its device.
        decay: Share of the old average that a step keeps.

    Attributes:
        module: The copy; it needs no gradient.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.module: Model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        averages, values = list(self.module.state_dict().values()), list(model.state_dict().values())
        pairs = list(zip(averages, values, strict=True))
        # Tensors of a state dict share the module's memory, so that these lists stay valid.
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._values = [value for average, value in pairs if average.is_floating_point()]
        self._own_counts = [average for average, _ in pairs if not average.is_floating_point()]
        self._counts = [value for average, value in pairs if not average.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take the model's weights after `steps` steps into the average.

        At first the decay is less, as in TensorFlow: a short run would otherwise be evaluated with little but its
        initial weights.
        """
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        torch._foreach_copy_(self._own_counts, self._counts)
