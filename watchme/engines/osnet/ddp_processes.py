"""The other processes of a multi-GPU training: started, watched, and ended with the leader (rank 0).

Whichever process fails, is killed, or falls silent, the run ends within half a minute with that process's own reason,
and no process is left. NCCL does not notice a peer that is gone, so a thread of the leader watches the followers.
"""

import contextlib
import logging
import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import cast

import torch
import torch.distributed as dist

from watchme.core.errors import TrainingError, WatchmeError
from watchme.core.lost_peer import is_lost_peer
from watchme.engines.osnet.ddp_follower import (
    DONE,
    HEARTBEAT_S,
    SILENCE_S,
    Follow,
    LostPeerError,
    exit_now,
    run_follower,
)
from watchme.engines.osnet.distributed import ProcessGroup, abort, joined_group, open_store

log = logging.getLogger(__name__)

_EXIT_WAIT_S = 10.0
_STUCK_S = 30.0
_START_S = 600.0  # then the leader joins the group, whose own limit ends it


@contextlib.contextmanager
def spawn_followers(devices: list[torch.device], follow: Follow) -> Iterator[ProcessGroup]:
    """Start a follower for each device but the first, and be their leader within the block.

    Args:
        devices: One for each process, the leader's first. One alone starts nobody.
        follow: Runs in each follower; must be picklable.

    Raises:
        WatchmeError: What a follower raised.
        TrainingError: If a follower was killed, or is silent.
    """
    if len(devices) == 1:
        yield ProcessGroup()
        return
    store, threads = open_store(), max(1, torch.get_num_threads() // len(devices))
    followers = [
        _Follower(rank, len(devices), device, store.port, threads, follow)
        for rank, device in enumerate(devices[1:], start=1)
    ]
    watcher = _Watcher(followers)
    try:
        watcher.wait_for_start()
        with joined_group(0, len(devices), devices[0], store.port, threads) as group:
            yield group
            watcher.expect_exits()
        for follower in followers:
            follower.process.join(_EXIT_WAIT_S)
    except BaseException as error:
        # A follower that fails breaks the leader's next exchange, and the watcher interrupts all else.
        try:
            lost = watcher.cause(error)
        except _Interrupted:  # sent just before the watcher knew of the error
            lost = watcher.cause(error)
        if lost is None:
            raise
        raise lost from error
    finally:
        try:
            watcher.stop()
        finally:  # also if Ctrl-C comes again
            for follower in followers:
                follower.pipe.close()  # on which it ends; else this process would wait for it for ever
            for follower in followers:
                follower.end(_EXIT_WAIT_S)


class _Follower:
    """A process, and the leader's end of the pipe to it: heartbeats and its error come in, its closing ends it."""

    def __init__(self, rank: int, size: int, device: torch.device, port: int, threads: int, follow: Follow) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, its_end = context.Pipe()
        method = multiprocessing.get_start_method()
        self.process: SpawnProcess = context.Process(
            target=run_follower,
            args=(rank, size, device, port, threads, method, follow, its_end),
            name=f"osnet-{rank}",
        )
        self.process.start()
        its_end.close()
        self.last_heartbeat: float | None = None  # None: it is still starting
        self.error: BaseException | None = None
        self.done = False

    @property
    def has_started(self) -> bool:
        """Whether it has its device, and is about to join the group."""
        return self.last_heartbeat is not None and self.error is None

    @property
    def has_failed(self) -> bool:
        """Whether it has said so, or has ended otherwise than at the end of the training, be it with status 0."""
        code = self.process.exitcode
        self.read()  # what it said before it ended
        return self.error is not None or (code is not None and not (code == 0 and self.done))

    def read(self) -> None:
        """Take what is in the pipe."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                received = self.pipe.recv_bytes()
                self.last_heartbeat = time.monotonic()
                if received and (said := pickle.loads(received)) == DONE:
                    self.done = True
                elif received:
                    self.error = said

    def end(self, wait_s: float) -> None:
        """Close the pipe, which ends the process with its loader's; by force if it does not end within `wait_s`."""
        with contextlib.suppress(OSError):
            self.pipe.close()
        self.process.join(wait_s)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Interrupted(BaseException):
    """Takes the leader's main thread out of whatever it does."""


class _Watcher:
    """A thread of the leader that ends it when a follower fails, is killed or falls silent."""

    def __init__(self, followers: list[_Follower]) -> None:
        self._followers = followers
        self._closing = threading.Event()  # followers may end, or the leader's own error ends them
        self._raised = threading.Event()  # the leader's main thread has left its work
        self._main = threading.current_thread() if threading.current_thread() is threading.main_thread() else None
        if self._main is not None:
            self._handler_before = signal.signal(signal.SIGUSR1, self._interrupt)
        self._error: WatchmeError | None = None
        self._thread = threading.Thread(target=self._watch, name="osnet-watcher", daemon=True)
        self._thread.start()

    def wait_for_start(self) -> None:
        """Until all followers have started: who joins a group waits for them where nothing can interrupt it."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and not all(each.has_started for each in self._followers):
            if self._error is not None:
                raise _Interrupted
            time.sleep(0.05)

    def expect_exits(self) -> None:
        """From now on followers may end."""
        self._closing.set()

    def stop(self) -> None:
        """End the thread."""
        self._raised.set()
        self._closing.set()
        self._thread.join()
        if self._main is not None:
            signal.signal(signal.SIGUSR1, self._handler_before)

    def _interrupt(self, *_: object) -> None:
        if not self._raised.is_set():
            raise _Interrupted

    def cause(self, error: BaseException) -> WatchmeError | None:
        """Why the group broke, if the leader's error follows from that; None if it is the leader's own."""
        self._raised.set()
        if is_lost_peer(error):
            # A follower that ends closes its sockets first, and on a busy machine takes long for the rest.
            self._thread.join(SILENCE_S + _EXIT_WAIT_S)
            return self._error or _lost_each_other(error)
        self._closing.set()
        return self._error if isinstance(error, _Interrupted) else None

    def _watch(self) -> None:
        silence = dict.fromkeys(self._followers, 0.0)
        mark = time.monotonic()
        while not self._closing.is_set():
            wait([each.process.sentinel for each in self._followers], HEARTBEAT_S / 2)
            passed, mark = time.monotonic() - mark, time.monotonic()
            for follower in self._followers:
                before = follower.last_heartbeat
                follower.read()
                started = follower.last_heartbeat is not None
                # Summed over rounds of this loop, so that a leader that was itself stopped for a while blames nobody.
                quiet = started and follower.last_heartbeat == before
                silence[follower] = silence[follower] + min(passed, HEARTBEAT_S) if quiet else 0.0
            silent = [each for each in self._followers if silence[each] > SILENCE_S]
            if silent or any(each.has_failed for each in self._followers):
                self._break_off(silent)
                return

    def _break_off(self, silent: list[_Follower]) -> None:
        """End the followers, and make the leader's main thread raise wherever it is."""
        deadline = time.monotonic() + 2
        # A process that has lost its peer may end before the one that it has lost.
        while time.monotonic() < deadline and not any(isinstance(each.error, WatchmeError) for each in self._followers):
            for follower in self._followers:
                follower.process.join(0.05)
                follower.read()
        self._error = self._reason(silent)
        for follower in self._followers:
            follower.end(1)
        if dist.is_initialized() and dist.get_backend() == "nccl":
            abort()
        # An exchange of gloo fails once its peer is gone; an evaluation goes on.
        if self._main is not None and not self._raised.wait(HEARTBEAT_S):
            signal.pthread_kill(cast(int, self._main.ident), signal.SIGUSR1)  # interrupts waiting calls, too
            if not self._raised.wait(_STUCK_S):
                # In a kernel or a driver that never returns. Better an open run.json than GPUs held for hours.
                log.critical("%s\n    This process does not return from what it waits for; it is ended.", self._error)
                exit_now()

    def _reason(self, silent: list[_Follower]) -> WatchmeError:
        for follower in self._followers:
            if isinstance(follower.error, WatchmeError):
                return follower.error
        for follower in silent:
            return TrainingError(
                f"training process {follower.process.name} (pid {follower.process.pid}) has not answered for "
                f"{SILENCE_S:.0f} s: it is stopped, or the machine hangs; it was killed"
            )
        lost = [each for each in self._followers if isinstance(each.error, LostPeerError)]
        for follower in sorted(self._followers, key=lost.__contains__):
            if isinstance(follower.error, BaseException) and follower not in lost:
                return TrainingError(f"training process {follower.process.name} failed: {follower.error}")
            code = follower.process.exitcode
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                hint = "; the kernel does so where memory runs out (see dmesg)" if name == "SIGKILL" else ""
                return TrainingError(f"training process {follower.process.name} was killed by {name}{hint}")
            if code is not None and not follower.done and follower not in lost:
                return TrainingError(f"training process {follower.process.name} ended with status {code}")
        return _lost_each_other(lost[0].error if lost else None)


def _lost_each_other(error: BaseException | None) -> TrainingError:
    """Where no process is known to have failed: a network or a driver, of which torch knows more."""
    said = f".\n    torch says: {error}" if error is not None else ""
    return TrainingError(f"the training processes have lost each other{said}")
