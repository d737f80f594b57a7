"""The progress of a sweep on the console: a live table on a terminal, else a line per event."""

import math
import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from optuna.trial import FrozenTrial, TrialState

from watchme.core.formatting import aligned, duration
from watchme.sweep.trial_states import best_of, counts, failed, measured_names, setting, state_name, values_of

_ROWS = 12
LOG_EVERY = 30.0  # seconds between lines where there is no table


@dataclass
class Progress:
    """A sweep's progress on the console."""

    title: str  # first line
    objectives: Sequence[str]  # canonical metric names
    directions: Sequence[str]  # `maximize` or `minimize`, one per objective
    total: int  # the budget of trials
    epochs: int  # most epochs of a trial
    read: Callable[[], list[FrozenTrial]]  # returns all trials
    live: bool  # redraw a table in place; else write a line for each trial that starts or ends
    stream: TextIO = field(default_factory=lambda: sys.stdout)

    def __post_init__(self) -> None:
        self._began = self._latest = self._said = time.monotonic()  # the latest trial that ended here
        self._here = 0
        self._drawn = 0
        self._drawing = threading.Lock()
        self._over = False

    def started(self, number: int, overrides: Sequence[str]) -> None:
        """Report that this process starts a trial."""
        if not self.live:
            self.say(f"trial {number}: {' '.join(overrides)}")

    def ended(self, trial: FrozenTrial) -> None:
        """Report that a trial of this process has ended."""
        self._here += 1
        self._latest = time.monotonic()
        if self.live:
            self.draw()
            return
        line = f"trial {trial.number} {state_name(trial)} {self._value(trial)}".rstrip()
        if trial.user_attrs.get("reason"):
            reason = str(trial.user_attrs["reason"]).splitlines()[0]
            line += f" ({textwrap.shorten(reason, 120, placeholder=' ...')})"
        self.say(f"{line} | {self.summary(self.read())}")

    def say(self, text: str) -> None:
        """Write a line, above the table where there is one."""
        with self._drawing:
            self._erase()
            self.stream.write(text + "\n")
            self.stream.flush()
            self._said = time.monotonic()

    def draw(self) -> None:
        """Redraw the table, or write where the running trials are if nothing was said for a while."""
        if self._over:
            return
        if not self.live:
            if time.monotonic() - self._said >= LOG_EVERY and (text := self._running(self.read())):
                self.say(text)
            return
        width = shutil.get_terminal_size().columns
        lines = [line[: width - 1] for line in self.lines(self.read())]
        with self._drawing:
            self._erase()
            self.stream.write("\n".join(lines) + "\n")
            self._drawn = len(lines)
            self.stream.flush()

    def finish(self) -> None:
        """Leave the last table standing."""
        self.draw()
        self._over, self._drawn = True, 0

    def lines(self, trials: Sequence[FrozenTrial]) -> list[str]:
        """The table: running trials, then the best, then the latest."""
        rows = [["trial", "state", "epoch", *measured_names(self.objectives, trials), "parameters"]]
        shown = sorted(trials, key=self._rank)[:_ROWS]
        for trial in shown:
            epoch = f"{trial.last_step}/{self.epochs}" if trial.last_step is not None else "-"
            values = self._cells(trial)
            rows.append([str(trial.number), state_name(trial), epoch, *values, _params(trial)])
        rest = len(trials) - len(shown)
        more = [f"... and {rest} more"] if rest > 0 else []
        return [self.title, *aligned(rows, right=()), *more, self.summary(trials)]

    def _running(self, trials: Sequence[FrozenTrial]) -> str:
        """The running trials with their epochs, and the summary; empty where none runs."""
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        steps = [f"trial {each.number} at epoch {each.last_step or 0}/{self.epochs}" for each in running[:_ROWS]]
        return f"{', '.join(steps)} | {self.summary(trials)}" if steps else ""

    def summary(self, trials: Sequence[FrozenTrial]) -> str:
        """How far it is, the best so far, and the time left."""
        done = sum(counts(trial) and trial.state.is_finished() for trial in trials)
        parts = [f"{done} of {self.total} trials"]
        if pruned := sum(trial.state == TrialState.PRUNED for trial in trials):
            parts.append(f"{pruned} pruned")
        if failures := sum(map(failed, trials)):
            parts.append(f"{failures} failed")
        best = best_of(trials, self.directions)
        if best is not None:
            parts.append(f"best {self._value(best)} of trial {best.number}")
        if self._here and done < self.total:
            # From one end of a trial to the next it counts down.
            each = (self._latest - self._began) / self._here
            left = each * (self.total - done) - (time.monotonic() - self._latest)
            parts.append(f"{duration(max(left, 0.0))} left")
        return ", ".join(parts)

    def _rank(self, trial: FrozenTrial) -> tuple[int, float]:
        if trial.state == TrialState.RUNNING:
            return 0, float(trial.number)
        if trial.state == TrialState.COMPLETE:
            sign = -1.0 if self.directions[0] == "maximize" else 1.0
            return 1, sign * (trial.values or [math.inf])[0]
        return 3 if trial.state == TrialState.WAITING else 2, -float(trial.number)

    def _cells(self, trial: FrozenTrial) -> list[str]:
        return ["-" if value is None else f"{value:.4f}" for value in values_of(trial, len(self.objectives))]

    def _value(self, trial: FrozenTrial) -> str:
        return " ".join(cell for cell in self._cells(trial) if cell != "-")

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def wants_table(choice: str, stream: Any = None) -> bool:
    """Whether to draw the live table: where it was chosen, or the output is a terminal that can redraw lines."""
    stream = stream or sys.stdout
    return choice == "table" or (choice == "auto" and stream.isatty() and os.environ.get("TERM", "") != "dumb")


def _params(trial: FrozenTrial) -> str:
    return " ".join(f"{name.rpartition('.')[2]}={setting(value, digits=3)}" for name, value in trial.params.items())
