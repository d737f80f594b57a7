"""Whichever process of a training fails, is killed or falls silent: the run ends with its reason, and none is left."""

import contextlib
import functools
import json
import multiprocessing
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from osnet import whole_runs
from watchme.core.errors import DataError, TrainingError, WatchmeError
from watchme.data.demo import DemoWorld
from watchme.engines.osnet import ddp_processes, distributed
from watchme.engines.osnet import train as train_module
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.ddp_processes import spawn_followers
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.trainer import Trainer

from .test_resume import assert_none_left, start, wait_for_epoch

CPU = torch.device("cpu")
TWO = [CPU, CPU]
ONE = torch.zeros(1, dtype=torch.float64)


def _wait(group: ProcessGroup, device: torch.device) -> None:
    group.broadcast(None)


def _come_late(group: ProcessGroup, device: torch.device) -> None:
    threading.Event().wait(60)
    group.wait_for_all()


def _raise(group: ProcessGroup, device: torch.device) -> None:
    raise DataError("crop.jpg is broken")


def _raise_foreign(group: ProcessGroup, device: torch.device) -> None:
    raise KeyError("strange")


def _raise_out_of_memory(group: ProcessGroup, device: torch.device) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _find_shm_full(group: ProcessGroup, device: torch.device) -> None:
    raise dist.DistBackendError("NCCL error: Error while creating shared memory segment /dev/shm/nccl-x")


def _kill_self(group: ProcessGroup, device: torch.device) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _terminate_self(group: ProcessGroup, device: torch.device) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _end_early(group: ProcessGroup, device: torch.device) -> None:
    raise SystemExit(0)


def _stop_self(group: ProcessGroup, device: torch.device) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()
    assert not [each for each in threading.enumerate() if each.name == "osnet-watcher"]


FAILURES: list[tuple[Callable[..., None], type[Exception], str]] = [
    (_raise, DataError, r"crop\.jpg is broken"),
    (_raise_foreign, TrainingError, "osnet-1 failed: KeyError: 'strange'"),
    (_find_shm_full, TrainingError, "(?s)have lost each other.*torch says.*memory segment /dev/shm/nccl-x"),
    (_kill_self, TrainingError, "osnet-1 was killed by SIGKILL; the kernel does so where memory runs out"),
    (_terminate_self, TrainingError, "osnet-1 was killed by SIGTERM"),
    (_end_early, TrainingError, "osnet-1 ended with status 0"),
    (_raise_out_of_memory, TrainingError, "osnet-1 failed: OutOfMemoryError: CUDA out of memory"),
    (_stop_self, TrainingError, r"osnet-1 \(pid \d+\) has not answered for 4 s"),
]


# Each starts a process, which imports torch: a few seconds on an idle machine.
QUICK = {(_raise, True), (_end_early, False), (_stop_self, False)}
CASES = [
    pytest.param(*case, exchanges, marks=() if (case[0], exchanges) in QUICK else pytest.mark.slow)
    for case in FAILURES
    for exchanges in (True, False)
]


@pytest.mark.parametrize(("follow", "kind", "message", "exchanges"), CASES)
def test_a_follower_that_fails_ends_the_leader(
    follow: Callable[..., None],
    kind: type[Exception],
    message: str,
    exchanges: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an exchange, and outside of one, as in an evaluation, which the leader does alone."""
    if follow is _stop_self:  # on a busy machine one that ends takes longer than this, in which it says nothing
        monkeypatch.setattr(ddp_processes, "SILENCE_S", 4.0)
    with pytest.raises(kind, match=message), spawn_followers(TWO, follow) as group:
        group.sum(ONE) if exchanges else threading.Event().wait(60)


def test_a_follower_that_takes_long_to_end_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sockets close first, and the leader's exchange fails; then it was not said which process had failed."""
    monkeypatch.setattr(ddp_processes, "_EXIT_WAIT_S", 0.02)
    with pytest.raises(TrainingError, match="osnet-1 ended with status 0"), spawn_followers(TWO, _end_early) as group:
        group.sum(ONE)


def test_a_follower_that_cannot_start_ends_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose GPU is busy; a leader that waited for it in the group could not be interrupted, only be ended."""
    monkeypatch.setattr(distributed, "_STEP_TIMEOUT", timedelta(seconds=5))
    missing = torch.device("cuda", 99)
    with pytest.raises(TrainingError, match=r"osnet-1 failed: \w*Error: "), spawn_followers([CPU, missing], _wait):
        pytest.fail("the leader has joined a group without it")


def test_who_waits_for_all_hears_ctrl_c() -> None:
    ctrl_c = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    started: list[float] = []

    def wait(group: ProcessGroup) -> None:
        ctrl_c.start()
        started.append(time.monotonic())
        group.wait_for_all()

    with pytest.raises(KeyboardInterrupt), spawn_followers(TWO, _come_late) as group:
        wait(group)
    assert time.monotonic() - started[0] < 30


def test_the_port_is_held_while_followers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes seconds to minutes, in which another run could get it."""
    joined = ddp_processes.joined_group

    def join(rank: int, size: int, device: torch.device, port: int, threads: int) -> Any:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        return joined(rank, size, device, port, threads)

    monkeypatch.setattr(ddp_processes, "joined_group", join)
    with spawn_followers(TWO, _wait) as group:
        group.broadcast(None)


@pytest.mark.slow
def test_the_one_that_failed_first_is_blamed() -> None:
    """Others lose their peer a moment later."""
    with pytest.raises(DataError, match=r"crop\.jpg is broken"), spawn_followers([CPU] * 3, _fail_second) as group:
        group.sum(ONE)


def _fail_second(group: ProcessGroup, device: torch.device) -> None:
    if group.rank == 2:
        raise DataError("crop.jpg is broken")
    group.sum(ONE)


@pytest.mark.parametrize("error", [KeyError, pytest.param(KeyboardInterrupt, marks=pytest.mark.slow)])
def test_an_error_of_the_leader_ends_the_followers_and_stays_its_own(error: type[BaseException]) -> None:
    started = time.monotonic()
    with pytest.raises(error), spawn_followers(TWO, _wait):
        raise error
    assert time.monotonic() - started < 60


def test_a_leader_that_fails_does_not_wait_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for it: destroy_process_group of NCCL would never return."""
    destroy, aborted = dist.destroy_process_group, []

    def abort() -> None:
        aborted.append(True)
        destroy()  # gloo has no abort

    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", abort)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: pytest.fail("the leader waits for the others"))
    with pytest.raises(KeyError, match="its own"), spawn_followers(TWO, _wait):
        raise KeyError("its own")
    assert aborted == [True]


def test_an_exchange_of_nccl_is_aborted_by_the_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL itself does not notice that a peer is gone."""
    aborting = []
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(ddp_processes, "abort", lambda: aborting.append(threading.current_thread().name))
    with pytest.raises(TrainingError, match="killed by SIGKILL"), spawn_followers(TWO, _kill_self):
        threading.Event().wait(60)
    assert aborting == ["osnet-watcher"]


@contextlib.contextmanager
def deaf_to(number: signal.Signals) -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def test_a_leader_that_never_returns_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a driver that hangs it hears no signal; it would hold its GPUs for hours."""
    ended = threading.Event()
    monkeypatch.setattr(ddp_processes, "_STUCK_S", 0.1)
    monkeypatch.setattr(ddp_processes, "exit_now", ended.set)
    killed = pytest.raises(TrainingError, match="killed by SIGKILL")
    with killed, spawn_followers(TWO, _kill_self), deaf_to(signal.SIGUSR1):
        ended.wait(30)
    assert ended.is_set()
    assert "This process does not return from what it waits for; it is ended" in caplog.text


def test_an_interrupt_while_followers_are_ended_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C twice: the first is being handled, and Python waits for its children before it exits."""
    stop, processes = ddp_processes._Watcher.stop, []

    def interrupted(self: ddp_processes._Watcher) -> None:
        processes.extend(multiprocessing.active_children())
        stop(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(ddp_processes._Watcher, "stop", interrupted)
    # Its traceback holds the leader's ends of the pipes, as that of a program that ends with it does.
    with pytest.raises(KeyboardInterrupt) as held, spawn_followers(TWO, _wait):
        raise KeyError("the first")
    assert len(processes) == 1
    processes[0].join(10)
    ended = processes[0].exitcode is not None
    processes[0].kill()
    assert ended, held


TINY = (*whole_runs.TINY, "train.epochs=500", "train.processes=2")


def _find_broken_crop(trainer: Trainer) -> None:
    broken = trainer.checkpoints.folder.parent / "broken.jpg"
    broken.write_bytes(trainer.dataset.images.files[0].read_bytes()[:200])
    trainer.dataset.images.files[:] = [broken] * len(trainer.dataset.images.files)


def _run_out_of_memory(trainer: Trainer) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _get(number: signal.Signals, trainer: Trainer) -> None:
    os.kill(os.getpid(), number)


FAULTS: dict[str, tuple[Callable[[Trainer], None], type[WatchmeError], str]] = {
    "corrupt crop": (_find_broken_crop, DataError, r"broken\.jpg"),
    "out of memory": (_run_out_of_memory, TrainingError, r"lower train\.batch_size=8.*Tried to allocate 2\.00 GiB"),
    "SIGKILL": (functools.partial(_get, signal.SIGKILL), TrainingError, "osnet-1 was killed by SIGKILL"),
    "SIGTERM": (functools.partial(_get, signal.SIGTERM), TrainingError, "osnet-1 was killed by SIGTERM"),
    "SIGSTOP": (functools.partial(_get, signal.SIGSTOP), TrainingError, "has not answered for 4 s"),
}


def _follow_into(fault: str, config: Config, folder: Path, group: ProcessGroup, device: torch.device) -> None:
    """A follower that has a fault in its second epoch."""
    train_epoch = Trainer.train_epoch

    def failing(self: Trainer, epoch: int) -> object:
        if epoch == 2:
            (folder / "fault").touch()
            FAULTS[fault][0](self)
        return train_epoch(self, epoch)

    Trainer.train_epoch = failing  # type: ignore[assignment, method-assign]
    train_module._follow(config, folder, group, device)


@pytest.mark.parametrize(
    "fault", [pytest.param(each, marks=pytest.mark.slow if each in ("SIGKILL", "SIGTERM") else ()) for each in FAULTS]
)
def test_a_fault_of_one_process_ends_the_training_with_its_reason(
    fault: str,
    run_whole: Callable[..., object],
    small_world: DemoWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two real processes over gloo; the run folder is closed, and the way to go on is said."""
    monkeypatch.setattr(train_module, "_follow", functools.partial(_follow_into, fault))
    if fault == "SIGSTOP":
        monkeypatch.setattr(ddp_processes, "SILENCE_S", 4.0)
    folder = tmp_path / "run"
    _, kind, reason = FAULTS[fault]
    with pytest.raises(kind, match=f"(?s){reason}.*train\\.resume={folder}"):
        run_whole(folder, *TINY, f"dataset.root={small_world.reid}")
    assert time.time() - (folder / "fault").stat().st_mtime < 30
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["status"] == "failed"


def follower_of(pid: int) -> int:
    """The process that train.py has started beside itself."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
    raise AssertionError("no follower")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("stopped", "reason"),
    [("follower", "has not answered for 15 s"), ("train.py", "was stopped (SIGSTOP) for 15 s")],
)
def test_a_run_of_which_a_process_is_stopped_ends_within_half_a_minute(
    stopped: str, reason: str, small_world: DemoWorld, tmp_path: Path
) -> None:
    """The reason is shown, run.json is closed, the way to go on is said, and no process is left."""
    folder = tmp_path / "run"
    process = start(*TINY, f"dataset.root={small_world.reid}", f"hydra.run.dir={folder}")
    try:
        wait_for_epoch(process, folder, 2)
        follower = psutil.Process(follower_of(process.pid))
        if stopped == "follower":
            follower.suspend()
        else:
            ended = os.pidfd_open(follower.pid)
            os.kill(process.pid, signal.SIGSTOP)
            assert select.select([ended], [], [], 30)[0], "the follower has not ended"
            os.close(ended)
            os.kill(process.pid, signal.SIGCONT)
        output, _ = process.communicate(timeout=40)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 1, output
    assert reason in output
    assert f"train.resume={folder}" in output
    assert "Traceback" not in output
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert_none_left(process.pid)


def _follow_late(config: Config, folder: Path, group: ProcessGroup, device: torch.device) -> None:
    """A follower that has read its dataset when the leader has long waited for it."""
    prepare = train_module._Run.prepare

    def slow(self: train_module._Run) -> None:
        prepare(self)
        while not (folder / "leader waits").exists():
            time.sleep(0.02)
        (folder / "follower has read").touch()

    train_module._Run.prepare = slow  # type: ignore[method-assign]
    train_module._follow(config, folder, group, device)


@pytest.mark.slow
def test_a_follower_may_take_long_to_read_its_data(
    run_whole: Callable[..., object], small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dataset.cache=ram reads all of it in each process; the leader has read its own before it starts the others.

    It waits apart from the exchanges of a step, the first of which are in building its trainer, and which may take
    minutes only.
    """
    folder, wait, build = tmp_path / "run", ProcessGroup.wait_for_all, Trainer.__init__

    def wait_for_all(self: ProcessGroup) -> None:
        (folder / "leader waits").touch()
        wait(self)

    def init(self: Trainer, *arguments: Any, **options: Any) -> None:
        assert (folder / "follower has read").exists()
        build(self, *arguments, **options)

    monkeypatch.setattr(ProcessGroup, "wait_for_all", wait_for_all)
    monkeypatch.setattr(Trainer, "__init__", init)
    monkeypatch.setattr(train_module, "_follow", _follow_late)
    run_whole(folder, *TINY, "train.epochs=1", f"dataset.root={small_world.reid}")
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
