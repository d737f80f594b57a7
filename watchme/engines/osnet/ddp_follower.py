"""A follower: a process of a multi-GPU training beside the leader's, which ddp_processes.py starts and watches.

It sends heartbeats, its error and its end through a pipe, and ends itself with the leader.
"""

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch

from watchme.core.errors import WatchmeError
from watchme.core.liveness import is_stopped_for
from watchme.core.lost_peer import is_lost_peer
from watchme.engines.osnet.distributed import ProcessGroup, joined_group

log = logging.getLogger(__name__)

# What a follower runs: its group and its device.
Follow = Callable[[ProcessGroup, torch.device], None]

HEARTBEAT_S = 1.0
SILENCE_S = 15.0  # without a heartbeat a process counts as stopped
DONE = "done"  # what it says at its end


class LostPeerError(RuntimeError):
    """A follower cannot reach another process, which may have failed before."""


def run_follower(
    rank: int,
    size: int,
    device: torch.device,
    port: int,
    threads: int,
    start_method: str,
    follow: Follow,
    pipe: "Connection[Any, Any]",
) -> None:
    """A follower's main function."""
    # Ctrl-C reaches the whole group of processes; the leader decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sending = threading.Lock()
    threading.Thread(target=_exit_with_leader, args=(pipe,), daemon=True).start()
    threading.Thread(target=_exit_if_leader_stops, args=(pipe, sending, os.getppid()), daemon=True).start()
    # A spawned process would spawn its loader's processes, too, which takes them many seconds.
    multiprocessing.set_start_method(start_method, force=True)
    with _failure_reported(pipe, sending):
        if device.type == "cuda":
            torch.cuda.set_device(device)  # an error if the GPU is busy
        threading.Thread(target=_send_heartbeats, args=(pipe, sending), daemon=True).start()
        with joined_group(rank, size, device, port, threads) as group, _failure_reported(pipe, sending):
            follow(group, device)
            with sending:
                pipe.send_bytes(pickle.dumps(DONE))


@contextlib.contextmanager
def _failure_reported(pipe: "Connection[Any, Any]", sending: threading.Lock) -> Iterator[None]:
    """Send an error to the leader and end this process at once: leaving a group of NCCL may wait for the others."""
    try:
        yield
    except Exception as error:
        kind = LostPeerError if is_lost_peer(error) else RuntimeError
        reported = error if isinstance(error, WatchmeError) else kind(f"{type(error).__name__}: {error}")
        with contextlib.suppress(OSError), sending:
            pipe.send_bytes(pickle.dumps(reported))
        exit_now()


def _send_heartbeats(pipe: "Connection[Any, Any]", sending: threading.Lock) -> None:
    with contextlib.suppress(OSError):
        while True:
            with sending:
                pipe.send_bytes(b"")
            time.sleep(HEARTBEAT_S)


def _exit_with_leader(pipe: "Connection[Any, Any]") -> None:
    """End this process once the leader's end of the pipe is closed, however deep in an exchange it waits."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv_bytes()
    exit_now()


def _exit_if_leader_stops(pipe: "Connection[Any, Any]", sending: threading.Lock, leader: int) -> None:
    """End this process if the leader is stopped for long, and leave it the reason, should it go on."""
    if is_stopped_for(leader, SILENCE_S):
        reason = f"it ended itself, as train.py (pid {leader}) was stopped (SIGSTOP) for {SILENCE_S:.0f} s"
        log.critical("Training process %s: %s", multiprocessing.current_process().name, reason)
        with contextlib.suppress(OSError), sending:
            pipe.send_bytes(pickle.dumps(RuntimeError(reason)))
        exit_now()


def exit_now() -> None:
    """End this process and its loader's, whatever its other threads do."""
    for worker in multiprocessing.active_children():
        worker.terminate()
    os._exit(1)
