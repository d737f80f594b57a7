"""A running sweep: slots that each start the next trial as soon as they are free, until the budget is used up."""

import dataclasses
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from watchme.config.validation import validate_section
from watchme.core.errors import WatchmeError, refused_path
from watchme.core.formatting import relative
from watchme.core.signals import signals_interrupt
from watchme.sweep import results
from watchme.sweep import sweep_dir as folders
from watchme.sweep.plan import Plan, make_plan
from watchme.sweep.progress import Progress, wants_table
from watchme.sweep.retry import is_outage
from watchme.sweep.settings import SweepConfig
from watchme.sweep.slot_setup import make_slots
from watchme.sweep.slots import WORKER, InProcess, Slot
from watchme.sweep.study import DIED, SweepStudy
from watchme.sweep.trial_outcome import Claim, Outcome, failure
from watchme.sweep.trial_states import best_of, failed, folder_of
from watchme.sweep.worker_main import serve

_POLL_S = 0.5
_DRAW_S = 2.0
_END_S = 30.0


class SweepFailed(WatchmeError):
    """No trial came to a result, or more failed than was allowed."""


class SweepInterrupted(WatchmeError):
    """The sweep was ended by Ctrl-C, SIGTERM or SIGHUP."""

    exit_code = 130


def start(
    settings: dict[str, Any], config: DictConfig, context: HydraContext, task: TaskFunction, arguments: list[str]
) -> Any:
    """Run a sweep, or the trials of one as its worker. A `WatchmeError` ends the program with its message.

    Returns:
        The best value; with several objectives, the values of the Pareto front.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if WORKER in os.environ:
            folders.prepare(config, Path(str(config.hydra.sweep.dir)))
            launcher = Plugins.instance().instantiate_launcher(config=config, hydra_context=context, task_function=task)
            return serve(InProcess(launcher, config, capture=True))
        with signals_interrupt():
            try:
                plan = make_plan(validate_section(SweepConfig, settings, "hydra.sweeper"), config, context, arguments)
                launch = Plugins.instance().instantiate_launcher
                launcher = launch(config=config, hydra_context=context, task_function=task)
                sweep = Sweep(plan, make_slots(plan, launcher))
            except OSError as error:
                if error.filename is None:
                    raise
                raise refused_path(error) from error
            except KeyboardInterrupt:
                text = "Interrupted before the first trial; nothing was run. The same command starts it."
                raise SweepInterrupted(text) from None
            return sweep.run()
    except WatchmeError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


class Sweep:
    """The trials of a study that this process runs."""

    def __init__(self, plan: Plan, slots: Sequence[Slot]) -> None:
        self.plan, self.slots = plan, slots
        self.settings = plan.settings
        self.study: SweepStudy = plan.open_study()
        self.progress = Progress(
            f"Study {plan.study_name} in {relative(plan.folder)}",
            plan.objectives,
            plan.directions,
            self.study.available,
            plan.epochs,
            self.study.trials,
            live=wants_table(self.settings.console) and self.settings.console != "trials",
        )
        self._stop = threading.Event()
        self._interrupted = False
        self._error: BaseException | None = None
        self._deadline = time.monotonic() + (self.settings.timeout_s or math.inf)

    def run(self) -> Any:
        """Run trials until the budget is used up, write the report, and return the best values.

        Raises:
            SweepFailed: If all trials failed, or `max_failures` was reached.
            SweepInterrupted: After Ctrl-C; what was running is queued again.
        """
        before = self.study.trials()
        done = sum(trial.state.is_finished() for trial in before)
        self.progress.say(
            self.progress.title
            + (f": {done} trials are stored, resuming" if before else "")
            + f"\n    storage {self.plan.storage}"
        )
        ended = threading.Event()
        pulse = threading.Thread(target=self._heartbeats, args=(ended,), daemon=True)
        pulse.start()
        try:
            if len(self.slots) == 1:
                self._work(self.slots[0], wait=True)
            else:
                self._run_threads()
        except KeyboardInterrupt:
            self._interrupted = True
        finally:
            ended.set()
            for slot in self.slots:
                slot.close()
        pulse.join(_END_S)
        if self._error is not None:
            raise self._error
        self.progress.finish()
        return self._conclude()

    def _run_threads(self) -> None:
        threads = [
            threading.Thread(target=self._guarded, args=(slot, index == 0), daemon=True)
            for index, slot in enumerate(self.slots)
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(_POLL_S)
        except KeyboardInterrupt:
            self._interrupted = True
            self._stop.set()
            self.progress.say("Interrupted: running trials save and end (Ctrl-C again to leave them at once).")
            for slot in self.slots:
                slot.interrupt()
            end = time.monotonic() + _END_S
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))

    def _guarded(self, slot: Slot, wait: bool) -> None:
        """The thread of a slot: an error of the sweep itself, such as a database that went away, ends all slots."""
        try:
            self._work(slot, wait)
        except BaseException as error:
            self._error = self._error or error
            self._stop.set()

    def _work(self, slot: Slot, wait: bool) -> None:
        """Run one trial after the other. The slot that waits goes on until no trial runs that might be lost."""
        announced = False
        while not self._stop.is_set() and time.monotonic() <= self._deadline:
            claim = self.study.claim()
            self._mark_lost()
            if claim is None:
                if not wait or self.study.is_over():
                    return
                if not announced and len(self.slots) == 1:
                    self.progress.say("The last trials run in other processes; waiting for them.")
                    announced = True
                self._stop.wait(_POLL_S)
                continue
            self._run_trial(slot, claim)

    def _run_trial(self, slot: Slot, claim: Claim) -> None:
        folder = self.plan.trial_folder(claim)
        self.study.set_folder(claim, folder)
        self.progress.started(claim.number, self.plan.space.searched(claim.params))
        outcome: Outcome | None = None
        try:
            if claim.error is not None:
                outcome = failure(claim.error)
            else:
                outcome = slot.run(claim.number, folder, self.plan.overrides(claim, folder))
        except KeyboardInterrupt:
            # Between the trial's own end and here, or the second Ctrl-C.
            outcome = Outcome(reason="interrupted", lost=True)
        if self._stop.is_set() and outcome.reason:
            outcome = dataclasses.replace(outcome, lost=True)
        folders.mark(folder, outcome)
        ended = self.study.finish(claim, outcome)
        if failed(ended) and not outcome.reason:  # it finished, but without a value
            folders.mark(folder, Outcome(reason=str(ended.user_attrs.get("reason", ""))))
        self.progress.ended(ended)
        if outcome.lost:
            self._interrupted = True
            self._stop.set()
        limit = self.settings.max_failures
        if limit is not None and sum(map(failed, self.study.trials())) >= limit:
            self._stop.set()

    def _mark_lost(self) -> None:
        while self.study.lost:
            number = self.study.lost.pop()
            folder = folder_of(self.study.trials()[number], self.plan.folder)
            if folder is not None:
                folders.mark(folder, Outcome(reason=DIED))
            self.progress.say(f"trial {number} was lost with its process; it is tried once more")

    def _heartbeats(self, ended: threading.Event) -> None:
        beaten = drawn = time.monotonic()
        while not ended.wait(_POLL_S):
            now = time.monotonic()
            try:
                if now - beaten >= self.settings.heartbeat_s:
                    beaten = now
                    self.study.beat()
                if now - drawn >= _DRAW_S:
                    drawn = now
                    self.progress.draw()
            except Exception as error:  # the slots end the sweep if the database stays away
                if not is_outage(error):
                    raise

    def _conclude(self) -> Any:
        trials = self.study.trials()
        results.write_results(self.plan, self.study.study)
        best = best_of(trials, self.plan.directions)
        say = self.progress.say
        if self._interrupted:
            raise SweepInterrupted(
                f"Interrupted: {self.progress.summary(trials)}.\n    The same command goes on, in "
                f"{relative(self.plan.folder)}."
            )
        failures = [trial for trial in trials if failed(trial)]
        limit = self.settings.max_failures
        if best is None or (limit is not None and len(failures) >= limit):
            raise SweepFailed(results.why_failed(self.plan, trials, failures))
        say(f"\nSwept {self.plan.study_name}: {self.progress.summary(trials)}")
        for line in results.closing(self.plan, trials, best):
            say(line)
        if len(self.plan.directions) > 1:
            return [list(trial.values) for trial in self.study.study.best_trials]
        return best.value
