"""Runs killed at random moments, from start-up to the last line: each goes on, and ends as if nothing had happened.

Twenty kills of each kind, drawn by a seed. A killed run is given its command again; where that is refused, the command
that the refusal names. What it must come to:

osnet   the uninterrupted run's numbers, bit for bit
yolo    every epoch once, at the uninterrupted run's learning rates, and a finished run. ultralytics' resume restores
        model, optimizer and epoch, but no random states, so losses may differ after it; a run that was killed before
        its first checkpoint, or after its last one, has the uninterrupted numbers
sweep   as many trials as asked for, the same values
"""

import csv
import json
import math
import multiprocessing
import os
import random
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from yolo.world import draw_dataset

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="forks and process groups")]

KILLS = 20
IN_CI = 2  # the others are nightly
SEED = 14
PRELOADED = [
    "torch",
    "watchme.cli.main",
    "watchme.engines.osnet.train",
    "watchme.engines.yolo.train",
    "watchme.sweep.sweep",
]
OSNET = (
    "model=osnet_x0_25",
    *("dataset.height=32", "dataset.width=16", "dataset.demo.identities=12", "dataset.demo.frame_size=160"),
    *("dataset.demo.cameras=3", "dataset.val_identities=3", "train.epochs=3", "train.eval_every=1", "train.device=cpu"),
    *("evaluation.visrank=0", "check.before_training=false"),
)
YOLO = (
    *("dataset=person_detection", "model.weights=null", "optimizer=adamw", "dataset.image_size=64", "train.epochs=3"),
    *("train.batch_size=8", "train.nominal_batch_size=8", "train.workers=0", "train.device=cpu", "train.patience=0"),
    *("augmentation=yolo_light", "evaluation.plots=false", "evaluation.examples=0", "scheduler.warmup_epochs=1"),
)
SWEEP = (*OSNET, "-m", "train.epochs=1", "optimizer.lr=0.001,0.01,0.02", "hydra.sweeper.console=lines")


def _train(arguments: list[str], log: str, folder: str) -> None:
    """train.py in a process that has torch already, so that a run takes seconds."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    from watchme.cli import main
    from watchme.run import provenance

    sys.argv = ["train.py", *arguments]
    provenance._TYPED.set(tuple(sys.argv))
    main.main()


@dataclass
class Trainer:
    """Starts train.py in processes of its own."""

    folder: Path

    def __post_init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)

    def run(self, arguments: list[str], kill_after: float = math.inf) -> tuple[int, str, float]:
        """Exit status (-9 where it was killed), what was printed, and the seconds that it took."""
        log = self.folder / "output.txt"
        log.unlink(missing_ok=True)
        started = time.monotonic()
        process = self.context.Process(target=_train, args=(arguments, str(log), str(self.folder)))
        process.start()
        process.join(None if math.isinf(kill_after) else kill_after)
        if process.exitcode is None:
            try:
                os.killpg(process.pid or 0, signal.SIGKILL)
            except ProcessLookupError:  # it leads no group yet
                process.kill()
        process.join()
        seconds = time.monotonic() - started
        return process.exitcode or 0, log.read_text() if log.exists() else "", seconds


@dataclass
class Kind:
    """A kind of run, and what an uninterrupted one of it comes to."""

    arguments: list[str]
    key: str
    trainer: Trainer
    numbers: Any = None
    seconds: float = 0.0

    def in_folder(self, name: str) -> list[str]:
        return [*self.arguments, f"{self.key}={self.trainer.folder / name}"]


def numbers_of(folder: Path) -> dict[str, Any]:
    """What a run has come to: its final metrics, and each epoch's without timings."""
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timings = ("time", "perf/")
    return {
        "status": json.loads((folder / "run.json").read_text())["status"],
        "summary": {name: value for name, value in summary.items() if "/" in name},
        "epochs": [{key: value for key, value in line.items() if not key.startswith(timings)} for line in lines],
    }


def lines_of(folder: Path) -> int:
    """Trained epochs in metrics.jsonl, each of which is written just before its checkpoint."""
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return sum(line.endswith(b"\n") and b'"epoch": 0,' not in line for line in lines)


def values_of(folder: Path) -> list[tuple[str, str, str]]:
    """State, learning rate and value of each trial of a sweep that was not lost, from its leaderboard."""
    with (folder / "leaderboard.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["state"] != "lost"]
    return sorted((row["state"], row["optimizer.lr"], row["val/map"]) for row in rows)


@pytest.fixture(scope="module")
def make_kind(own_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Kind]:
    made: dict[str, Kind] = {}

    def make(name: str) -> Kind:
        if name in made:
            return made[name]
        trainer = Trainer(tmp_path_factory.mktemp(name))
        arguments = {"osnet": OSNET, "yolo": YOLO, "sweep": SWEEP}[name]
        if name == "yolo":
            drawn = draw_dataset(trainer.folder / "drawn", {"train": 16, "val": 8, "test": 4})
            arguments = (*arguments, f"dataset.root={drawn}")
        kind = Kind(list(arguments), "hydra.sweep.dir" if name == "sweep" else "hydra.run.dir", trainer)
        trainer.run(kind.in_folder("warm-up"))  # draws the demo world, checks the dataset
        status, text, kind.seconds = trainer.run(kind.in_folder("whole"))
        assert status == 0, text
        whole = trainer.folder / "whole"
        kind.numbers = values_of(whole) if name == "sweep" else numbers_of(whole)
        made[name] = kind
        return kind

    return make


def go_on(kind: Kind, name: str) -> tuple[str, list[str]]:
    """Give the command again, or the one that a refusal names; returns the last output and what was tried."""
    arguments, tried = kind.in_folder(name), []
    for _ in range(3):
        status, text, _ = kind.trainer.run(arguments)
        tried.append(f"{shlex.join(arguments[-2:])} -> {status}")
        assert "Traceback" not in text, (tried, text)
        if status == 0:
            return text, tried
        named = re.search(r"(train\.resume=\S+?)[,.]?\s", text)
        assert named is not None, (tried, text)
        arguments = shlex.split(named[1])
    raise AssertionError((tried, text))


@pytest.mark.parametrize("number", [pytest.param(n, marks=[pytest.mark.nightly] * (n >= IN_CI)) for n in range(KILLS)])
@pytest.mark.parametrize("name", ["osnet", "yolo", "sweep"])
def test_a_killed_run_goes_on(name: str, number: int, make_kind: Callable[[str], Kind]) -> None:
    kind = make_kind(name)
    moment = random.Random(f"{SEED} {name} {number}").uniform(0, 1.05) * kind.seconds
    folder = kind.trainer.folder / str(number)
    status, killed, _ = kind.trainer.run(kind.in_folder(str(number)), moment)
    where = f"killed after {moment:.2f} of {kind.seconds:.2f} s with status {status}: {killed[-300:]}"
    print(where.splitlines()[0], (killed.splitlines() or [""])[-1])
    again: list[int] = []  # epochs trained after the kill
    written = lines_of(folder)
    if status != 0:
        text, tried = go_on(kind, str(number))
        again = [int(epoch) for epoch in re.findall(r"^epoch +(\d+)/3 ", text, re.MULTILINE)]
        where += f" {tried}"
    if name == "sweep":
        assert values_of(folder) == kind.numbers, where
        return
    found = numbers_of(folder)
    assert not list(folder.glob(".*.tmp")), where
    assert not again or written <= again[0] <= written + 1, f"what was trained is not trained again: {where}"
    if name == "osnet" or len(again) in (0, 3):
        assert found == kind.numbers, where
        return
    assert found["status"] == "finished", where
    assert [line["epoch"] for line in found["epochs"]] == [1, 2, 3], where
    rates = [[line["train/lr"] for line in one["epochs"]] for one in (found, kind.numbers)]
    assert rates[0] == pytest.approx(rates[1]), where
    assert found["summary"].keys() == kind.numbers["summary"].keys(), where
