"""torch.distributed for one training: a process's rank in the group, the exchanges it needs, joining and leaving.

All processes see the same batches, each a share of every one, so that a group trains as one process would. Rank 0, the
leader, alone evaluates, writes checkpoints and reports epochs. ddp_processes.py starts the other processes.
"""

import contextlib
import functools
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from watchme.core.process_state import environment, torch_threads

# An exchange of a training step; NCCL itself never notices that a peer is gone.
_STEP_TIMEOUT = timedelta(minutes=10)
# The others wait for the leader while it evaluates and saves.
_CONTROL_TIMEOUT = timedelta(days=7)
_HOST = "127.0.0.1"


@dataclass(frozen=True, eq=False)
class ProcessGroup:
    """This process's place among those that train one model. Without torch.distributed: one process alone."""

    rank: int = 0  # 0 is the leader
    size: int = 1  # how many processes there are
    # A gloo group for what is not part of a step: a process that waits in it sleeps on a socket, where NCCL would keep
    # its GPU and a core busy.
    control: Any = None

    @property
    def is_leader(self) -> bool:
        """Whether this process evaluates, saves and reports."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """The leader's value, in every process; until the leader has called it, the others wait."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over the processes of a float64 CPU tensor, in every process."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        # Gathered rather than reduced: one sum in rank order has the same bits in every process.
        dist.all_gather(parts, values, group=self.control)
        return torch.stack(parts).sum(0)

    def wait_for_all(self) -> None:
        """Wait until all processes have come here, however long that takes."""
        if self.size == 1:
            return
        arrival = dist.barrier(self.control, async_op=True)
        while not arrival.is_completed():
            time.sleep(0.05)  # torch's own wait would not hear Ctrl-C
        arrival.wait()

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over the processes, as DistributedDataParallel does those of its model."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.size

    def gather(self, values: Tensor) -> Tensor:
        """(B, ...) of each process to (size * B, ...) in order of rank.

        A loss of what is gathered is the same in every process. Each has the gradient of its own part alone, times
        `size`, so that the mean that DistributedDataParallel takes is the gradient of the whole batch.
        """
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.detach().contiguous())
        parts[self.rank] = _ScaledGradient.apply(values, self.size) if values.requires_grad else values
        return torch.cat(parts)


class _ScaledGradient(torch.autograd.Function):
    """The values unchanged, their gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


@contextlib.contextmanager
def joined_group(rank: int, size: int, device: torch.device, port: int, threads: int) -> Iterator[ProcessGroup]:
    """Membership of a process group; environment and thread count are put back afterwards.

    Args:
        rank: Of this process.
        size: How many processes join.
        device: Where this process computes; NCCL between GPUs, gloo elsewhere.
        port: Of the leader's `open_store`.
        threads: Of torch, in this process.
    """
    variables = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        # accelerate takes this as the number of the GPU.
        "LOCAL_RANK": str(rank if device.index is None else device.index),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),
    }
    with environment(variables), torch_threads(threads):
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_STEP_TIMEOUT)
                yield ProcessGroup(rank, size, dist.new_group(backend="gloo", timeout=_CONTROL_TIMEOUT))
            dist.destroy_process_group()
        finally:
            abort()


def abort() -> None:
    """Leave the process group without the others; destroy_process_group may wait for them for ever after an error."""
    if not dist.is_initialized():
        return
    with contextlib.suppress(Exception):  # gloo has no abort, and NCCL's raises what it finds broken
        dist.distributed_c10d._abort_process_group()
    if dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


def open_store() -> dist.TCPStore:
    """What processes of this machine find each other by, at a port that it holds from now on, as long as it is kept.

    A leader that opened it in joining, when all have started, could find the port taken.
    """
    open_at = functools.partial(dist.TCPStore, _HOST, is_master=True, multi_tenant=True, wait_for_workers=False)
    store = open_at(0)
    while True:
        try:
            open_at(store.port)  # as joining does: torch finds the open one by its port
        except dist.DistNetworkError:
            store = open_at(0)  # not where this process had another one at that port before
        else:
            return store
