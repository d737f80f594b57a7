"""Several processes: epochs and answers travel, and whichever process fails, is killed or stopped ends all of them.

The launcher and ranks here do what torch.distributed.run and ultralytics' ranks do, without torch: each rank is in a
session of its own, connects, says "ready" on its output, and then works for ever.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import pytest

from watchme.core.errors import DataError, TrainingError
from watchme.core.interfaces import EpochEvent, Stop
from watchme.engines.yolo import distributed

RANK = """
import os, signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
from watchme.core.errors import DataError
from watchme.core.interfaces import EpochEvent
from watchme.engines.yolo.distributed import connect_to_parent
rank, does, read, write = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
parent = connect_to_parent(rank)
if rank == 1:
    os.write(write, b".")  # connected
if rank == 0:
    os.read(read, 1)
    answers = [parent(EpochEvent(epoch, 3, {"train/loss": 1.0 / epoch})) for epoch in (1, 2)]
    assert answers[0] is None and answers[1].reason == "enough", answers
if does != "wait" and rank == 1:
    signal.sigwait({signal.SIGUSR1})  # it is still there when the test looks for it
if does == "fail" and rank == 1:
    parent.fail(DataError("crop 7 is unreadable"))
    raise SystemExit(1)
if does == "finish":
    parent.finish()
else:
    threading.Event().wait()  # a collective that never returns
"""
LAUNCHER = """
import os, subprocess, sys
read, write = os.pipe()
for rank in (0, 1):
    command = [sys.executable, "-c", sys.argv[1], str(rank), sys.argv[2], str(read), str(write)]
    subprocess.Popen(command, start_new_session=True, pass_fds=(read, write))
codes = [os.wait()[1], os.wait()[1]]
raise SystemExit(1 if any(codes) else 0)
"""


@dataclass
class Run:
    """The events of a run; `act` is called with the launcher and the ranks when the second one has come."""

    act: Callable[[psutil.Process, list[psutil.Process]], object] = lambda launcher, ranks: None
    events: list[EpochEvent] = field(default_factory=list)
    processes: list[psutil.Process] = field(default_factory=list)

    def emit(self, event: EpochEvent) -> Stop | None:
        self.events.append(event)
        if event.epoch == 1:
            return None
        living = (each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE)
        (launcher,) = (each for each in living if LAUNCHER in each.cmdline())
        ranks = sorted(launcher.children(), key=lambda each: each.cmdline()[3])
        self.processes = [launcher, *ranks]
        self.act(launcher, ranks)
        return Stop("enough")

    def start(self, does: str) -> None:
        with distributed.serve(self.emit):
            subprocess.run([sys.executable, "-c", LAUNCHER, RANK, does], check=True)

    def left(self) -> list[psutil.Process]:
        return [each for each in self.processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "STOPPED_LIMIT", 1.0)
    monkeypatch.setattr(distributed, "GRACE", 1.0)


def test_events_and_answers_travel_between_processes() -> None:
    run = Run(lambda launcher, ranks: ranks[1].send_signal(signal.SIGUSR1))
    run.start("finish")
    assert [event.metrics["train/loss"] for event in run.events] == [1.0, 0.5]
    assert distributed.connect_to_parent(0) is None, "the address is gone with the block"
    assert run.left() == []


def test_the_error_of_a_rank_is_raised_and_the_waiting_rank_ended() -> None:
    run = Run(lambda launcher, ranks: ranks[1].send_signal(signal.SIGUSR1))
    with pytest.raises(DataError, match="crop 7 is unreadable"):
        run.start("fail")
    assert len(run.processes) == 3
    assert run.left() == []


@pytest.mark.parametrize(
    ("kill", "message"),
    [
        (lambda launcher, ranks: ranks[1].kill(), r"rank 1 \(pid \d+\) was killed"),
        (lambda launcher, ranks: ranks[1].terminate(), r"rank 1 \(pid \d+\) was killed"),
        (lambda launcher, ranks: ranks[0].kill(), r"rank 0 \(pid \d+\) was killed"),
        (lambda launcher, ranks: ranks[1].suspend(), r"rank 1 \(pid \d+\) was stopped \(SIGSTOP\)"),
        (lambda launcher, ranks: launcher.suspend(), r"torch.distributed.run \(pid \d+\) was stopped \(SIGSTOP\)"),
        (lambda launcher, ranks: launcher.kill(), r"was ended by signal 9"),
        (lambda launcher, ranks: launcher.terminate(), r"was ended by signal 15"),
    ],
    ids=["kill 1", "term 1", "kill 0", "stop 1", "stop launcher", "kill launcher", "term launcher"],
)
def test_whichever_process_is_killed_or_stopped_ends_all(
    kill: Callable[[psutil.Process, list[psutil.Process]], object], message: str
) -> None:
    run = Run(kill)
    begun = time.monotonic()
    with pytest.raises(TrainingError, match=message):
        run.start("wait")
    assert time.monotonic() - begun < 30
    assert len(run.processes) == 3
    assert run.left() == []


def test_the_error_of_a_callback_is_raised() -> None:
    def full(launcher: psutil.Process, ranks: list[psutil.Process]) -> None:
        raise DataError("disk full")

    run = Run(full)
    with pytest.raises(DataError, match="disk full"):
        run.start("wait")
    assert run.left() == []


def test_a_launcher_without_ranks_does_not_hang() -> None:
    with pytest.raises(TrainingError, match="exited with status 3"), distributed.serve(lambda event: None):
        subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)


def test_an_interrupt_leaves_no_rank_behind() -> None:
    """SIGINT raises KeyboardInterrupt in subprocess.run, which kills the launcher alone."""
    main = threading.main_thread().ident
    assert main is not None
    run = Run(lambda launcher, ranks: signal.pthread_kill(main, signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run.start("wait")
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_ranks_end_when_the_process_of_train_py_is_killed_or_stopped(number: signal.Signals) -> None:
    parent = f"""
import sys
from watchme.engines.yolo import distributed
import subprocess
def emit(event):
    print("epoch", event.epoch, flush=True)
    if event.epoch == 2:
        import threading
        threading.Event().wait()
with distributed.serve(emit):
    subprocess.run([sys.executable, "-c", {LAUNCHER!r}, {RANK!r}, "wait"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    assert lines == ["epoch 1\n", "epoch 2\n"]
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) == 3
    ranks = [each for each in below if LAUNCHER not in each.cmdline()]
    os.kill(process.pid, number)
    _, alive = psutil.wait_procs(ranks, timeout=30)
    assert alive == []
    if number == signal.SIGSTOP:
        os.kill(process.pid, signal.SIGCONT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        reason = rf"train.py \(pid {process.pid}\) was stopped \(SIGSTOP\) for 10 s"
        # Said at once by the ranks, and as the error of the run when it goes on.
        assert len(re.findall(reason, errors)) >= 2
        assert re.search(rf"TrainingError: {reason}", errors)
    else:
        process.communicate()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
