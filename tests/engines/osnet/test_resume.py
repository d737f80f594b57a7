"""A run that is broken off anywhere and resumed ends as one that was never stopped, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from osnet.tiny import TINY
from watchme.core import device as runtime
from watchme.core.errors import CheckpointError, ConfigError
from watchme.core.interfaces import EpochEvent, Stop
from watchme.data.demo import DemoWorld
from watchme.engines.osnet import checkpoints
from watchme.engines.osnet import evaluate as evaluation
from watchme.engines.osnet.learner import Learner
from watchme.engines.osnet.trainer import Trainer
from watchme.tracking.jsonl import read_metrics

PROJECT = Path(__file__).resolve().parents[3]
Run = Callable[..., Any]
SHORT = (
    *TINY,
    "train.epochs=3",
    "train.ema_decay=0.9",
    "optimizer=adam",
    "optimizer.lr=0.001",
    "scheduler=cosine",
    "scheduler.warmup_epochs=1.5",
)


class KilledError(BaseException):
    """Stands for the kill: nothing in the engine handles it."""


@pytest.fixture(scope="module")
def options(small_world: DemoWorld) -> tuple[str, ...]:
    return (*SHORT, f"dataset.root={small_world.reid}")


@pytest.fixture(scope="module")
def whole(run_engine: Run, options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run that is never stopped."""
    return run_engine(tmp_path_factory.mktemp("whole"), *options)


def assert_same_weights(folder: Path, reference: Path) -> None:
    """All that a checkpoint holds is equal, the generators' states and the optimizer's moments included."""
    for name in ("best.pt", "last.pt"):
        ours, theirs = (torch.load(each / "weights" / name, weights_only=True) for each in (folder, reference))
        assert_equal(ours, theirs, name)


def assert_equal(ours: Any, theirs: Any, where: str) -> None:
    if isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_equal(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), where
        for place, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(left, right, f"{where}[{place}]")
    else:
        assert ours == theirs, where


def curve(events: list[EpochEvent]) -> list[dict[str, float]]:
    return [{"epoch": event.epoch, **event.metrics} for event in events]


@pytest.mark.parametrize("number", [2, 3, 4])
def test_killed_before_a_checkpoint_is_written(
    number: int, whole: Any, run_engine: Run, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the report of an epoch and its last.pt, or between that and best.pt."""
    calls = 0

    def save(path: Path, content: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KilledError
        original(path, content)

    original = checkpoints.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", save)
        with pytest.raises(KilledError):
            run_engine(tmp_path, *options)
    resumed = run_engine(tmp_path, *options, f"train.resume={tmp_path}")
    assert curve(resumed.events) == curve(whole.events)[resumed.resumed[0] + 1 :]
    assert resumed.result.metrics == whole.result.metrics
    assert resumed.result.best_epoch == whole.result.best_epoch
    assert_same_weights(tmp_path, whole.folder)


@pytest.mark.parametrize(
    ("began", "stays", "said"),
    [("cpu", True, "stays fp32, in which the run began"), ("cuda:0", False, "was fp32 on cuda and is bf16 on cpu")],
)
def test_the_precision_of_a_resumed_run_does_not_depend_on_its_machine(
    began: str,
    stays: bool,
    said: str,
    run_engine: Run,
    options: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`auto` is fp32 where it began, and would be bf16 here."""

    def fast_at(auto: str) -> None:
        choose = lambda wanted, device: auto if wanted == "auto" else wanted  # noqa: E731
        monkeypatch.setattr(runtime, "choose_precision", choose)

    fast_at("fp32")
    first = run_engine(tmp_path, *options, "train.epochs=1")
    manifest = {"status": "interrupted", "device": {**first.manifest["device"], "devices": [began]}}
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    (tmp_path / "config.yaml").touch()
    fast_at("bf16")
    resumed = run_engine(tmp_path, *options, f"train.resume={tmp_path}")
    assert resumed.manifest["device"]["precision"] == ("fp32" if stays else "bf16")
    assert any(said in each for each in resumed.fallbacks)


def test_killed_inside_an_epoch_goes_on_at_its_start(
    whole: Any, run_engine: Run, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: Counter[int] = Counter()  # by epoch

    def train_epoch(self: Trainer, epoch: int) -> Any:
        steps[epoch] = 0
        return original_epoch(self, epoch)

    def step(self: Learner, *args: Any, **kwargs: Any) -> Any:
        epoch = max(steps)
        steps[epoch] += 1
        if (epoch, steps[epoch]) == (2, 2):
            raise KilledError
        return original_step(self, *args, **kwargs)

    original_epoch, original_step = Trainer.train_epoch, Learner.step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", train_epoch)
        patch.setattr(Learner, "step", step)
        with pytest.raises(KilledError):
            run_engine(tmp_path, *options)
    resumed = run_engine(tmp_path, *options, f"train.resume={tmp_path}", "train.workers=1")
    assert resumed.resumed == [1]
    assert_same_weights(tmp_path, whole.folder)


@pytest.mark.parametrize("stop", [None, 2])
def test_killed_before_the_final_evaluation(
    stop: int | None, whole: Any, run_engine: Run, options: tuple[str, ...], tmp_path: Path
) -> None:
    """After the last epoch, or after an early stop: only the evaluation is made up for."""

    def emit(event: EpochEvent) -> Stop | None:
        return Stop("enough") if event.epoch == stop else None

    def broken(*args: object) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "plot_ranking", broken)
        with pytest.raises(KilledError):
            run_engine(tmp_path, *options, emit=emit)
    resumed = run_engine(tmp_path, *options, f"train.resume={tmp_path}")
    assert resumed.events == []
    assert resumed.result.epochs == (stop or 3)
    assert "test/map" in resumed.result.metrics
    if stop is None:
        assert resumed.result.metrics == whole.result.metrics
        assert_same_weights(tmp_path, whole.folder)
    else:
        longer = run_engine(tmp_path, *options, f"train.resume={tmp_path}", "train.patience=5")
        assert [event.epoch for event in longer.events] == [3]


def test_a_trained_run_keeps_what_it_was_trained_with(
    whole: Any, run_engine: Run, composed_config: Run, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Else its config would name a learning rate, or a size of images, that no epoch had."""
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(composed_config(*options), resolve=True))
    (folder / "run.json").write_text("{}")
    for override, key in (
        ("optimizer.lr=0.5", "optimizer.lr"),
        ("dataset.height=96", "dataset.height"),
        ("loss=softmax", "loss.weight_t"),
        ("scheduler=linear", "scheduler.name"),
    ):
        with pytest.raises(ConfigError, match=rf"{key} = (?s:.*)all epochs are trained with"):
            run_engine(folder, *options, f"train.resume={folder}", override)
    resumed = run_engine(folder, *options, f"train.resume={folder}")
    assert (resumed.events, resumed.result.metrics) == ([], whole.result.metrics)


def test_the_best_epoch_counts_with_its_value_of_a_new_objective(
    whole: Any, run_engine: Run, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Its mAP was compared with losses, of which less is better, and no epoch was better any more."""
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    content = torch.load(folder / "weights" / "last.pt", weights_only=True)
    best = content["training"]["best_metrics"]
    assert content["training"]["best"] == best["val/map"]
    longer = ("train.epochs=4", "objective=val/rank1", f"train.resume={folder}")
    resumed = run_engine(folder, *options, *longer)
    number = content["training"]["best_epoch"]
    said = f"the best epoch so far, {number}, was chosen by another objective; it counts with its val/rank1 of"
    assert [text for text in resumed.fallbacks if said in text]
    (event,) = resumed.events
    assert event.is_best == (event.metrics["val/rank1"] >= best["val/rank1"])


def test_other_identities_are_refused(whole: Any, run_engine: Run, options: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"(?s)identities that are not.*model\.weights="):
        run_engine(tmp_path, *options, f"train.resume={whole.folder}", "train.seed=1")


def test_weights_alone_are_refused(whole: Any, run_engine: Run, options: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights alone; resume from last\.pt"):
        run_engine(tmp_path, *options, f"train.resume={whole.folder}/weights/best.pt")


def test_periodic_checkpoints_are_kept_and_resumed(
    whole: Any, run_engine: Run, options: tuple[str, ...], tmp_path: Path
) -> None:
    run_engine(tmp_path, *options, "train.save_period=1", "train.keep_last=2")
    assert sorted(path.name for path in (tmp_path / "weights").glob("epoch*")) == ["epoch0002.pt", "epoch0003.pt"]
    again = run_engine(tmp_path, *options, f"train.resume={tmp_path}/weights/epoch0002.pt")
    assert again.resumed == [2]
    assert curve(again.events) == curve(whole.events)[3:]


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell lets what it starts in the background ignore Ctrl-C, these tests too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_epoch(process: "subprocess.Popen[str]", folder: Path, epoch: int) -> None:
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and any(line["epoch"] >= epoch for line in read_metrics(metrics))):
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Process ids of the session that `pid` leads."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # State and session: a zombie is gone already.
            if int(fields[3]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def assert_none_left(pid: int) -> None:
    """The session that `pid` led has ended; Python's own keeper of semaphores may need a moment more."""
    deadline = time.monotonic() + 15
    while left := children(pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_sigkill_at_arbitrary_moments(whole: Any, options: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    resume: tuple[str, ...] = (*options, f"hydra.run.dir={folder}")
    for epoch, delay in ((0, 0.4), (1, 0.03), (2, 0.2)):
        process = start(*resume)
        wait_for_epoch(process, folder, epoch)
        time.sleep(delay)
        process.kill()
        process.wait()
        if (folder / "weights" / "last.pt").is_file():
            resume = (f"train.resume={folder}",)
        else:
            folder = tmp_path / f"run{epoch}"
            resume = (*options, f"hydra.run.dir={folder}")
    last = start(*resume)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0, output
    expected = [{"epoch": event.epoch, **event.metrics} for event in whole.events]
    lines = read_metrics(folder / "metrics.jsonl")
    assert [{name: line[name] for name in kept} for line, kept in zip(lines, expected, strict=True)] == expected
    assert_same_weights(folder, whole.folder)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_signals_end_cleanly_and_say_how_to_go_on(
    send: Callable[[int, int], None], number: signal.Signals, processes: int, options: tuple[str, ...], tmp_path: Path
) -> None:
    """One to train.py, or to all its processes, loaders included, as Slurm, systemd and a terminal send it."""
    folder = tmp_path / "run"
    process = start(
        *options,
        f"hydra.run.dir={folder}",
        "train.workers=2",
        "train.epochs=500",
        "train.device=cpu",
        f"train.processes={processes}",
    )
    try:
        # Its line says that epoch 2 is over, so the checkpoint of epoch 1 is written.
        wait_for_epoch(process, folder, 2)
        send(process.pid, number)
        output, _ = process.communicate(timeout=60)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 130, output
    assert f"train.resume={folder}" in output
    assert "Traceback" not in output
    assert "leaked" not in output
    assert_none_left(process.pid)
    assert torch.load(folder / "weights" / "last.pt", weights_only=True)["epoch"] >= 1
