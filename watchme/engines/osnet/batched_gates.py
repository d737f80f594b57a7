"""OSNet's blocks with the gates of their four streams computed at once: a quarter of a step's kernels less.

torchreid calls a block's one gate for each stream. Here the pooled streams go through it as one batch. What is computed
is the same; sums are rounded in another order.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from watchme.engines.osnet.quiet_torchreid import osnet, osnet_ain


def batch_gates(model: nn.Module) -> None:
    """Let all blocks of an OSNet compute their gates at once; parameters and their names stay."""
    for block in model.modules():
        if (kind := _KINDS.get(type(block))) is not None:
            block.__class__ = kind


def _gated_sum(gate: Any, streams: Sequence[Tensor]) -> Tensor:
    """The sum of (B, C, H, W) streams, each times its gate: torchreid's `sum(gate(stream) for stream in streams)`."""
    pooled = torch.cat([stream.mean((2, 3), keepdim=True) for stream in streams])
    opened = gate.gate_activation(gate.fc2(gate.relu(gate.fc1(pooled)))).chunk(len(streams))
    # Not addcmul, whose backward multiplies by its factor of 1.
    first, *others = (stream * factor for stream, factor in zip(streams, opened, strict=True))
    total: Tensor = functools.reduce(torch.add, others, first)
    return total


class _Block(osnet.OSBlock):  # type: ignore[misc]
    """Of osnet_x* and osnet_ibn_x1_0, which normalises an image's sum."""

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.conv1(x)
        x2 = _gated_sum(self.gate, [self.conv2a(x1), self.conv2b(x1), self.conv2c(x1), self.conv2d(x1)])
        out = self.conv3(x2) + (x if self.downsample is None else self.downsample(x))
        return relu(out if self.IN is None else self.IN(out))


class _AinBlock(osnet_ain.OSBlock):  # type: ignore[misc]
    """Of osnet_ain_x1_0."""

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.conv1(x)
        x3 = self.conv3(_gated_sum(self.gate, [stream(x1) for stream in self.conv2]))
        return relu(x3 + (x if self.downsample is None else self.downsample(x)))


class _AinBlockIN(osnet_ain.OSBlockINin):  # type: ignore[misc]
    """Of osnet_ain_x1_0, with instance normalisation inside."""

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.conv1(x)
        x3 = self.IN(self.conv3(_gated_sum(self.gate, [stream(x1) for stream in self.conv2])))
        return relu(x3 + (x if self.downsample is None else self.downsample(x)))


_KINDS: dict[Any, type[Any]] = {kind.__base__: kind for kind in (_Block, _AinBlock, _AinBlockIN)}
