"""CUDA graphs of a model in training: its forward and its backward pass are launched at once, not kernel by kernel."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Forward(nn.Module):
    """Stands for a model, since `make_graphed_callables` replaces the forward method of the module that it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """As the model's."""
        return self.model(images)


def record_graphs(model: nn.Module, images: Tensor) -> Callable[[Tensor], Any]:
    """A function that computes `model(images)`, and later its gradients, by CUDA graphs.

    By `torch.cuda.make_graphed_callables`, which warms up with three passes: cuDNN chooses its kernels in them. They
    leave the model as it was. The kernels are those of the model without graphs, and so are the results. Which
    parameters learn, and how the model normalises, is recorded too: when that changes, graphs are recorded again. No
    other thread may use the GPU meanwhile, as one that pins a loader's batches does.

    Args:
        model: In training mode, on a CUDA device. Under autocast, without its cache of converted weights.
        images: (B, 3, H, W) float32, of the size and memory format of all batches; one of another size is computed
            without graphs.

    Raises:
        torch.OutOfMemoryError: If the GPU is full. Graphs keep the memory of a step's activations to themselves.
    """
    gc.collect()  # graphs that were recorded before: older versions of torch leave them in a cycle
    buffers = list(model.buffers())  # running means and variances
    kept = [buffer.clone() for buffer in buffers]
    try:
        graphed: Any = torch.cuda.make_graphed_callables(_Forward(model), (images,), allow_unused_input=True)
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
        torch.cuda.empty_cache()  # what the warm-up took; graphs have a pool of their own

    def forward(batch: Tensor) -> Any:
        return graphed(batch) if batch.shape == images.shape else model(batch)

    return forward
