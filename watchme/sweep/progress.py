"""What the console shows while a sweep runs: a table that is drawn anew, or a line an event."""

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from optuna.trial import FrozenTrial, TrialState

from watchme.core.formatting import duration
from watchme.sweep.study import counts, failed, is_waiting

_STATES = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}
_ROWS = 12


class Progress:
    """A sweep's progress on the console.

    Args:
        title: First line.
        objectives: Canonical names.
        directions: One an objective.
        total: Trials that there are to be.
        epochs: Most epochs of a trial.
        read: Gives all trials.
        live: Draw a table anew; else write a line for each trial that ends.
        stream: Where to.
    """

    def __init__(
        self,
        title: str,
        objectives: Sequence[str],
        directions: Sequence[str],
        total: int,
        epochs: int,
        read: Callable[[], list[FrozenTrial]],
        *,
        live: bool,
        stream: TextIO | None = None,
    ) -> None:
        self.title, self.objectives, self.directions = title, list(objectives), list(directions)
        self.total, self.epochs, self.read, self.live = total, epochs, read, live
        self.stream = stream or sys.stdout
        self._began = time.monotonic()
        self._here = 0
        self._drawn = 0
        self._drawing = threading.Lock()
        self._over = False

    def started(self, number: int, overrides: Sequence[str]) -> None:
        """A trial begins here."""
        if not self.live:
            self.say(f"trial {number}: {' '.join(overrides)}")

    def ended(self, trial: FrozenTrial) -> None:
        """A trial has ended here."""
        self._here += 1
        if self.live:
            self.draw()
            return
        trials = self.read()
        told = f"trial {trial.number} {state_of(trial)} {self._value(trial)}".rstrip()
        if trial.user_attrs.get("reason"):
            told += f" ({str(trial.user_attrs['reason']).splitlines()[0][:120]})"
        self.say(f"{told} | {self.summary(trials)}")

    def say(self, text: str) -> None:
        """Write a line, above the table where there is one."""
        with self._drawing:
            self._erase()
            self.stream.write(text + "\n")
            self.stream.flush()

    def draw(self) -> None:
        """Draw the table anew, if there is one."""
        if not self.live or self._over:
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
        rows = [["trial", "state", "epoch", *self.objectives, "parameters"]]
        shown = sorted(trials, key=self._rank)[:_ROWS]
        for trial in shown:
            epoch = f"{trial.last_step}/{self.epochs}" if trial.last_step is not None else "-"
            values = self._cells(trial)
            rows.append([str(trial.number), state_of(trial), epoch, *values, _params(trial)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
        body = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
        rest = len(trials) - len(shown)
        return [self.title, *body, *([f"... and {rest} more"] if rest > 0 else []), self.summary(trials)]

    def summary(self, trials: Sequence[FrozenTrial]) -> str:
        """How far it is, the best so far, and the time left."""
        done = sum(counts(trial) and trial.state.is_finished() for trial in trials)
        parts = [f"{done} of {self.total} trials"]
        for state, count in (
            ("pruned", sum(trial.state == TrialState.PRUNED for trial in trials)),
            ("failed", sum(map(failed, trials))),
        ):
            if count:
                parts.append(f"{count} {state}")
        best = best_of(trials, self.directions)
        if best is not None:
            parts.append(f"best {self._value(best)} of trial {best.number}")
        spent = time.monotonic() - self._began
        if self._here and done < self.total:
            parts.append(f"{duration(spent / self._here * (self.total - done))} left")
        return ", ".join(parts)

    def _rank(self, trial: FrozenTrial) -> tuple[int, float]:
        if trial.state == TrialState.RUNNING:
            return 0, float(trial.number)
        if trial.state == TrialState.COMPLETE:
            sign = -1.0 if self.directions[0] == "maximize" else 1.0
            return 1, sign * (trial.values or [math.inf])[0]
        return 3 if is_waiting(trial) else 2, -float(trial.number)

    def _cells(self, trial: FrozenTrial) -> list[str]:
        if trial.state == TrialState.COMPLETE and trial.values:
            return [f"{value:.4f}" for value in trial.values]
        latest = f"{trial.intermediate_values[trial.last_step]:.4f}" if trial.last_step is not None else "-"
        return [latest, *["-"] * (len(self.objectives) - 1)]

    def _value(self, trial: FrozenTrial) -> str:
        return " ".join(cell for cell in self._cells(trial) if cell != "-")

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def state_of(trial: FrozenTrial) -> str:
    """A trial's state in a word."""
    if trial.user_attrs.get("lost"):
        return "lost"
    return _STATES[trial.state]


def best_of(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> FrozenTrial | None:
    """The best complete trial; by the first objective where there are several."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    if not complete:
        return None
    sign = 1.0 if directions[0] == "maximize" else -1.0
    return max(complete, key=lambda trial: sign * trial.values[0])


def wants_table(choice: str, stream: Any = None) -> bool:
    """Whether a table that is drawn anew fits where the output goes."""
    stream = stream or sys.stdout
    return choice == "table" or (choice == "auto" and stream.isatty() and os.environ.get("TERM", "") != "dumb")


def _params(trial: FrozenTrial) -> str:
    return " ".join(
        f"{name.rpartition('.')[2]}={value:.3g}" if isinstance(value, float) else f"{name.rpartition('.')[2]}={value}"
        for name, value in trial.params.items()
    )
