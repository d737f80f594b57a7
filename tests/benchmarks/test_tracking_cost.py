"""What `tracker=all` costs a training of about a minute: at most 2%.

Two numbers say it. The processor time of the tracking processes is what they take from the training; it is read process
by process, and other work on the machine hardly changes it. The wall time of whole commands is what a user waits for;
paired and alternating, with its noise beside it.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
PAIRS = int(os.environ.get("WATCHME_BENCHMARK_PAIRS", "2"))
EPOCHS = int(os.environ.get("WATCHME_BENCHMARK_EPOCHS", "8"))
MOST = 0.02
_LOOK_S = 0.1
_SEARCH_S = 1.0  # between searches for new processes, which read of every process on the machine


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    wall: float  # seconds from its start to its exit
    processor: float  # seconds of all its processes
    tracking: float  # those of its tracking process and of what that started


def measured(tracker: str, folder: Path, *arguments: str) -> Cost:
    """Run one training to its end."""
    command = [sys.executable, "train.py", f"tracker={tracker}", "tracker.mode=offline", f"hydra.run.dir={folder}"]
    start = time.perf_counter()
    run = subprocess.Popen([*command, *arguments], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    processes = {run.pid: psutil.Process(run.pid)}
    seconds: dict[int, float] = {}
    trackers: set[int] = set()
    searched = 0.0
    while run.poll() is None:
        if time.perf_counter() - searched > _SEARCH_S:
            searched = time.perf_counter()
            trackers |= _search(processes[run.pid], processes)
        for pid, process in processes.items():
            try:
                times = process.cpu_times()
            except psutil.Error:  # it has ended
                continue
            seconds[pid] = times.user + times.system
        time.sleep(_LOOK_S)
    wall = time.perf_counter() - start
    assert run.returncode == 0
    assert bool(trackers) == (tracker != "none")
    return Cost(wall, sum(seconds.values()), sum(seconds.get(pid, 0.0) for pid in trackers))


def _search(command: psutil.Process, processes: dict[int, psutil.Process]) -> set[int]:
    """Add what a command has started since; returns which of all are tracking processes or below one."""
    found: set[int] = set()
    with contextlib.suppress(psutil.Error):  # one has ended; the others are found the next time
        for child in command.children(recursive=True):
            processes.setdefault(child.pid, child)
            if any("tracking.process_main" in argument for argument in child.cmdline()):
                found |= {child.pid, *(below.pid for below in child.children(recursive=True))}
    return found


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f} s"


@pytest.mark.benchmark
def test_tracking_costs_at_most_two_percent(tmp_path: Path) -> None:
    measured("none", tmp_path / "warm-up", "train.epochs=1", "train.limit_batches=1")  # makes the demo world
    costs: dict[str, list[Cost]] = {"none": [], "all": []}
    for pair in range(PAIRS):
        for tracker in ("none", "all") if pair % 2 == 0 else ("all", "none"):
            costs[tracker].append(measured(tracker, tmp_path / f"{tracker}{pair}", f"train.epochs={EPOCHS}"))
    print()
    walls = {tracker: [cost.wall for cost in found] for tracker, found in costs.items()}
    for tracker, found in costs.items():
        processor = spread([cost.processor for cost in found])
        print(f"tracker={tracker:<5} wall {spread(walls[tracker])}; processor time {processor}")
    # Other work only ever adds time.
    without = min(cost.processor for cost in costs["none"])
    tracking = [cost.tracking for cost in costs["all"]]
    share = min(tracking) / without
    print(f"tracking processes {spread(tracking)} of processor time: {share:.2%} of the training's {without:.0f} s")
    extra = min(walls["all"]) / min(walls["none"]) - 1
    noise = max((max(values) - min(values)) / min(values) for values in walls.values())
    print(f"wall time {extra:+.2%}, with a noise of {noise:.2%}")
    assert share <= MOST
    assert extra <= MOST + noise


@pytest.mark.benchmark
def test_the_training_process_itself_waits_less_than_two_percent(tmp_path: Path) -> None:
    """Seconds inside the callbacks, start and end included."""
    from tracking.made_up import Tracked, event, make_config

    config = make_config(tensorboard=True, wandb=True, mode="offline")
    start = time.perf_counter()
    run = Tracked.begin(tmp_path / "run", config)
    inside = time.perf_counter() - start
    for epoch in range(1, 21):
        time.sleep(0.25)
        start = time.perf_counter()
        for _ in range(4):
            run.picture("val/predictions", epoch)
        run.session.emit(event(epoch, 0.5))
        inside += time.perf_counter() - start
    start = time.perf_counter()
    run.end("finished", run.result())
    inside += time.perf_counter() - start
    print(f"\n{inside:.2f} s inside the callbacks, in all (20 epochs, 80 pictures), the report included")
    assert inside < MOST * 60
