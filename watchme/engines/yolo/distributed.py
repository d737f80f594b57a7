"""The processes of a multi-GPU run: epochs of rank 0, and the end of the run when any of them fails or is stopped.

ultralytics runs `torch.distributed.run`, which starts a process (rank) for each GPU in a session of its own: a signal
to train.py does not reach them. So every rank connects to the process of train.py. Rank 0 sends its epochs and waits
for the answer, any rank sends the error that ends it, and all of them exit when the connection closes, or when the
process of train.py is stopped for long.
"""

import contextlib
import multiprocessing.util
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.context import AuthenticationError
from typing import Any

import psutil

from watchme.core.errors import TrainingError, WatchmeError
from watchme.core.interfaces import EpochEvent, StepEvent, Stop
from watchme.core.liveness import is_stopped_for
from watchme.core.process_state import environment

Emit = Callable[[EpochEvent], Stop | None]
Step = Callable[[StepEvent], None]
_ADDRESS, _KEY, _PID = "WATCHME_PARENT_ADDRESS", "WATCHME_PARENT_KEY", "WATCHME_PARENT_PID"
_POLL = 0.5
# A rank that is stopped (SIGSTOP, a debugger, a frozen container) keeps the others waiting for hours.
STOPPED_LIMIT = 10.0
# After a failure, for the launcher and the other ranks to end on their own; then they are killed.
GRACE = 10.0


class LostPeerError(TrainingError):
    """A rank cannot reach another one, which may have failed before."""


@contextlib.contextmanager
def serve(emit: Emit, step: Step = lambda event: None) -> Iterator[None]:
    """Answer the events of the ranks that are started within the block; none of them outlives it.

    `emit` takes the epochs of rank 0, and its answer is sent back; `step` takes its points within epochs.

    Raises:
        WatchmeError: The reason why the first rank failed, instead of the launcher's exit status.
    """
    parent, exited = _Parent(emit, step), list[BaseException]()
    with Listener(authkey=parent.key, backlog=64) as listener:
        variables = {_ADDRESS: str(listener.address), _KEY: parent.key.hex(), _PID: str(os.getpid())}
        threading.Thread(target=parent.accept, args=(listener,), name="yolo-ranks", daemon=True).start()
        watcher = threading.Thread(target=parent.watch, name="yolo-watch", daemon=True)
        watcher.start()
        try:
            with environment(variables):
                yield
        except subprocess.CalledProcessError as error:
            parent.hear_out()
            exited.append(TrainingError(f"the processes of the GPUs ended: {_exit_status(error.returncode)}"))
        finally:
            parent.ended.set()
            watcher.join()
            parent.end_all()
            with contextlib.suppress(OSError):
                # Unblocks accept(). With the key it would wait for an answer, and nobody may accept any more.
                Client(listener.address).close()
    # A rank that has lost another one may say so before the end of that one is seen.
    reasons = [*sorted(parent.failures, key=lambda each: isinstance(each, LostPeerError)), *exited]
    if reasons:
        raise reasons[0]


class _Parent:
    """The end of the connections in the process of train.py, and the processes that it has started."""

    def __init__(self, emit: Emit, step: Step) -> None:
        self.key = os.urandom(16)
        self.ended = threading.Event()
        self.failures: list[BaseException] = []
        self._emit, self._step = emit, step
        self._connections: list[Connection] = []
        self._ranks: dict[int, int] = {}  # process id -> rank
        self._threads: dict[int, threading.Thread] = {}  # process id -> who reads what that rank sends
        self._processes: set[psutil.Process] = set()
        self._others = set(psutil.Process().children())
        self._stopped: dict[psutil.Process, float] = {}  # since when
        self._failed_at = 0.0

    def fail(self, error: BaseException) -> None:
        """Note an error; the first one is the reason, as others follow from it, but for a `LostPeerError`."""
        self._failed_at = self._failed_at or time.monotonic()
        self.failures.append(error)

    def accept(self, listener: Listener) -> None:
        """Serve each rank that connects in its own thread."""
        while not self.ended.is_set():
            try:
                connection = listener.accept()
            except (OSError, EOFError, AuthenticationError):
                continue
            self._connections.append(connection)
            threading.Thread(target=self._answer, args=(connection,), name="yolo-rank", daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        rank = pid = -1
        try:
            rank, pid = connection.recv()
            self._ranks[pid], self._threads[pid] = rank, threading.current_thread()
            while (message := connection.recv()) is not None:
                if isinstance(message, BaseException):
                    self.fail(message)
                    return
                if isinstance(message, StepEvent):
                    self._step(message)
                else:
                    connection.send(self._emit(message))
        except (EOFError, OSError):
            if rank >= 0 and not self.ended.is_set():
                self.fail(
                    TrainingError(
                        f"the process of rank {rank} (pid {pid}) was killed; if nobody did that, the system ran out "
                        f"of memory (see dmesg): lower train.workers, or leave dataset.cache=none"
                    )
                )
        except BaseException as error:  # also of a callback, e.g. an interrupt
            self.fail(error)

    def hear_out(self) -> None:
        """See the ends of all ranks that have ended: on a busy machine the launcher's may be seen before."""
        for pid, thread in list(self._threads.items()):
            if _has_ended(pid):
                thread.join(GRACE)

    def watch(self) -> None:
        """Until the block ends: collect the processes; kill them if one is stopped, or if they outlast a failure."""
        while not self.ended.wait(_POLL):
            self._collect()
            self._find_stopped()
            if self._failed_at and time.monotonic() - self._failed_at >= (0 if self._stopped else GRACE):
                self._kill()

    def _find_stopped(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if _status(process) != psutil.STATUS_STOPPED:
                self._stopped.pop(process, None)
            elif now - self._stopped.setdefault(process, now) >= STOPPED_LIMIT and not self._failed_at:
                rank = self._ranks.get(process.pid)
                name = "torch.distributed.run" if rank is None else f"the process of rank {rank}"
                took = f"{now - self._stopped[process]:.0f} s"
                self.fail(TrainingError(f"{name} (pid {process.pid}) was stopped (SIGSTOP) for {took}"))

    def end_all(self) -> None:
        """Close the connections, on which ranks exit, and kill what is left."""
        self._collect()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.close()
        for _ in range(3):
            _, alive = psutil.wait_procs(self._processes, timeout=3)
            if not alive:
                return
            self._kill()

    def _collect(self) -> None:
        """Remember the launcher and its descendants; their parent may be gone when they must be ended."""
        started = set(psutil.Process().children()) - self._others
        for pid in list(self._ranks):
            with contextlib.suppress(psutil.Error):
                started.add(psutil.Process(pid))
        for process in started:
            self._processes.add(process)
            with contextlib.suppress(psutil.Error):
                self._processes |= set(process.children(recursive=True))

    def _kill(self) -> None:
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                process.kill()  # psutil compares the start time, so a reused process id is safe


class ParentConnection:
    """A rank's connection to the process of train.py; the rank exits when that process closes it, ends, or is stopped.

    Call it with an event to get the callbacks' answer.
    """

    def __init__(self, address: str, key: bytes, pid: int, rank: int) -> None:
        self._connection: Connection = Client(address, authkey=key)
        # A loader's process outlives a rank that is killed by seconds, and would keep the connection open.
        multiprocessing.util.register_after_fork(self._connection, Connection.close)
        self._connection.send((rank, os.getpid()))
        self._answers: queue.SimpleQueue[Stop | None] = queue.SimpleQueue()
        self._finished = False
        threading.Thread(target=self._listen, name="watchme-parent", daemon=True).start()
        threading.Thread(target=self._exit_if_stopped, args=(pid,), name="watchme-stopped", daemon=True).start()

    def __call__(self, event: EpochEvent) -> Stop | None:
        """Send an event and wait for the answer."""
        self._connection.send(event)
        return self._answers.get()

    def step(self, event: StepEvent) -> None:
        """Send a point within an epoch; nothing is answered."""
        self._connection.send(event)

    def finish(self) -> None:
        """Say that this rank has done its work, and may end."""
        self._finished = True
        self._connection.send(None)

    def fail(self, error: WatchmeError) -> None:
        """Send an error, to be raised in the process of train.py."""
        self._finished = True
        with contextlib.suppress(OSError):
            self._connection.send(error)

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._answers.put(self._connection.recv())
        if not self._finished:
            os._exit(1)  # the main thread may be in a collective that never returns

    def _exit_if_stopped(self, pid: int) -> None:
        if is_stopped_for(pid, STOPPED_LIMIT) and not self._finished:
            reason = f"train.py (pid {pid}) was stopped (SIGSTOP) for {STOPPED_LIMIT:.0f} s, so its processes ended"
            print(reason, file=sys.stderr, flush=True)
            self.fail(TrainingError(reason))
            os._exit(1)


def connect_to_parent(rank: int) -> ParentConnection | None:
    """Connect to the process of train.py; None where `serve` did not start this process."""
    address = os.environ.get(_ADDRESS)
    if address is None:
        return None
    return ParentConnection(address, bytes.fromhex(os.environ[_KEY]), int(os.environ[_PID]), rank)


def _status(process: psutil.Process) -> Any:
    with contextlib.suppress(psutil.Error):
        return process.status()
    return None


def _has_ended(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True


def _exit_status(code: int) -> str:
    if code < 0:
        return f"torch.distributed.run, which starts them, was ended by signal {-code}"
    return f"torch.distributed.run, which starts them, exited with status {code}; the reason is in the output above"
