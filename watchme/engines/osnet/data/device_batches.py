"""Batches moved to the device, and normalised there."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from watchme.engines.osnet.data.augmentation import to_network
from watchme.engines.osnet.data.loader import Batch


class DeviceBatch(NamedTuple):
    """A batch as the network takes it."""

    images: Tensor  # (B, 3, H, W) float32 on the device
    labels: Tensor  # (B,) int64 on the device
    indices: Tensor  # (B,) int64 on the CPU


def to_device(
    batches: Iterable[Batch], device: torch.device, *, normalize: bool, channels_last: bool
) -> Iterator[DeviceBatch]:
    """Move batches to the device and normalise them there; on CUDA on a stream of their own, beside the computation.

    See `loader.read_batches`, `to_network` and `uses_channels_last`.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def moved(batch: Batch) -> DeviceBatch:
        # From memory that is not pinned, as on MPS, a copy that does not block may read what is overwritten already.
        asynchronous = device.type == "cuda"
        images, labels = (each.to(device, non_blocking=asynchronous) for each in (batch.images, batch.labels))
        erased = None if batch.erased is None else batch.erased.to(device, non_blocking=asynchronous)
        pixels = to_network(images, erased, normalize=normalize).contiguous(memory_format=layout)
        return DeviceBatch(pixels, labels, batch.indices)

    if device.type != "cuda":
        yield from map(moved, batches)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            ready = moved(batch)
        # The GPU is still busy with the batch before, so that this one travels meanwhile.
        current.wait_stream(stream)
        for tensor in (ready.images, ready.labels):
            tensor.record_stream(current)  # else its memory could be given away too early
        yield ready


def uses_channels_last(wanted: bool, device: torch.device) -> bool:
    """Whether `train.channels_last` is honoured: convolutions are wrong with it on MPS, and faster on CUDA and CPU."""
    return wanted and device.type in ("cuda", "cpu")
