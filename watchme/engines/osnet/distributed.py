"""Several processes that train one model: this process leads, the others follow.

The leader alone tells the house of epochs, evaluates and writes checkpoints; a follower runs the same loop with
nobody listening. All see the same batches, each a share of every one, so the team trains as one process would.
"""

import contextlib
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from watchme.core.errors import TrainingError, WatchmeError

log = logging.getLogger(__name__)

# The leader evaluates and saves while the others wait for it.
_TIMEOUT = timedelta(hours=6)
_LAST_WORDS_S = 10.0


@dataclass(frozen=True)
class Team:
    """This process's place among those that train one model.

    Attributes:
        rank: 0 leads.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process evaluates, saves and reports."""
        return self.rank == 0

    def agree(self, value: Any) -> Any:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def total(self, values: Tensor) -> Tensor:
        """Element-wise sum over the processes of a float64 CPU tensor, in every process."""
        if self.size == 1:
            return values
        parts: list[Any] = [None] * self.size
        # As objects: NCCL moves no CPU tensors, and one sum in rank order is the same in every process.
        dist.all_gather_object(parts, values)
        return torch.stack(parts).sum(0)

    def mean(self, values: Tensor) -> Tensor:
        """Element-wise mean over the processes, in every process; the tensor lies on the process's device."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def gather(self, values: Tensor) -> Tensor:
        """(B, ...) of each process to (size * B, ...) in order of rank. Only one's own part carries a gradient."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.detach().contiguous())
        parts[self.rank] = values
        return torch.cat(parts)


@contextlib.contextmanager
def led(devices: list[torch.device], follow: Callable[[Team, torch.device], None]) -> Iterator[Team]:
    """Start a follower for each device but the first, and lead them within the block.

    Args:
        devices: One for each process, the leader's first. One alone starts nobody.
        follow: Runs in each follower; must be picklable.

    Raises:
        WatchmeError: What a follower raised.
        TrainingError: If a follower was killed.
    """
    if len(devices) == 1:
        yield Team()
        return
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    address = _free_address()
    threads = max(1, torch.get_num_threads() // len(devices))
    # Each follower reads from a pipe on which nothing comes but its end, when the leader leaves or dies.
    pipes = [context.Pipe(duplex=False) for _ in devices[1:]]
    start_method = multiprocessing.get_start_method()
    followers = [
        context.Process(
            target=_run_follower,
            args=(Team(rank, len(devices)), device, address, threads, start_method, follow, errors, reader),
            name=f"osnet-{rank}",
        )
        for rank, device, (reader, _) in zip(range(1, len(devices)), devices[1:], pipes, strict=True)
    ]
    for follower, (reader, _) in zip(followers, pipes, strict=True):
        follower.start()
        reader.close()
    try:
        with _group(Team(0, len(devices)), devices[0], address, threads):
            yield Team(0, len(devices))
        for follower in followers:
            follower.join(_LAST_WORDS_S)
    except Exception as error:
        # A follower that fails breaks the leader's next exchange; the cause is what the follower says.
        if not _broken_exchange(error):
            raise
        raise _cause(followers, errors) from error
    finally:
        for _, writer in pipes:
            writer.close()
        for follower in followers:
            follower.join(_LAST_WORDS_S)
            if follower.is_alive():
                follower.kill()
                follower.join()


def _broken_exchange(error: BaseException) -> bool:
    """Whether an error comes of another process that is gone, rather than of this one's own work."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "Connection"))
    )


def _cause(followers: list[SpawnProcess], errors: Any) -> WatchmeError:
    """What the first follower to fail has said, or how it ended."""
    deadline = time.monotonic() + _LAST_WORDS_S
    while time.monotonic() < deadline:
        # A follower ends only after its words are sent.
        silent = all(follower.exitcode is not None for follower in followers)
        with contextlib.suppress(queue.Empty):
            told = pickle.loads(errors.get(timeout=0.2))
            return told if isinstance(told, WatchmeError) else TrainingError(f"a training process failed: {told}")
        if silent:
            break
    for follower in followers:
        if follower.exitcode not in (None, 0):
            return TrainingError(f"training process {follower.name} ended with status {follower.exitcode}")
    return TrainingError("the training processes have lost each other")


def _run_follower(
    team: Team,
    device: torch.device,
    address: tuple[str, int],
    threads: int,
    start_method: str,
    follow: Callable[[Team, torch.device], None],
    errors: Any,
    leader: Any,
) -> None:
    # Ctrl-C reaches the whole group of processes; the leader decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leader,), daemon=True).start()
    # A spawned process would spawn its loader's processes, too, which takes them many seconds.
    multiprocessing.set_start_method(start_method, force=True)
    try:
        with _group(team, device, address, threads):
            follow(team, device)
    except Exception as error:
        if _broken_exchange(error):
            sys.exit(1)  # the process that failed first says why
        told = error if isinstance(error, WatchmeError) else RuntimeError(f"{type(error).__name__}: {error}")
        errors.put(pickle.dumps(told))
        errors.close()
        errors.join_thread()
        sys.exit(1)


def _end_with(leader: Any) -> None:
    """End this process once the leader's end of the pipe is closed, however deep in an exchange it waits."""
    with contextlib.suppress(EOFError, OSError):
        leader.recv()
    for loader in multiprocessing.active_children():
        loader.terminate()
    os._exit(1)


@contextlib.contextmanager
def _group(team: Team, device: torch.device, address: tuple[str, int], threads: int) -> Iterator[None]:
    """Membership of the process group; environment and thread count are put back afterwards."""
    variables = {
        "RANK": str(team.rank),
        "WORLD_SIZE": str(team.size),
        # accelerate takes this as the number of the GPU.
        "LOCAL_RANK": str(team.rank if device.index is None else device.index),
        "LOCAL_WORLD_SIZE": str(team.size),
        "MASTER_ADDR": address[0],
        "MASTER_PORT": str(address[1]),
        "OMP_NUM_THREADS": str(threads),
    }
    before = {name: os.environ.get(name) for name in variables}
    threads_before = torch.get_num_threads()
    os.environ.update(variables)
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(threads_before)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _free_address() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", int(probe.getsockname()[1])
