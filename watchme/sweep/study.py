"""A study and its budget: which trial comes next, which trials are lost, what each has come to.

A trial counts if it is complete, pruned, failed by its own doing, or running. One whose process died is lost: it
is marked FAIL, does not count, and is tried once more. All decisions are made under a lock that every process of
the study shares, so that processes on several machines together run exactly `n_trials`.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from watchme.core.errors import ConfigError, Problem
from watchme.sweep import process_owner as owner
from watchme.sweep.pruning_callback import PRUNED_AT
from watchme.sweep.search_space import Hook, SearchSpace
from watchme.sweep.study_differences import differences

FINGERPRINT = "watchme:search_space"
LOST = "its process ended without a word"
_FIXED = "fixed_params"  # Optuna's own name: values that a trial must take
_GRID = "watchme:grid"
_RETRY_OF = "watchme:retry_of"
_TRIES = "watchme:tries"
_DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Outcome:
    """What became of a trial's run.

    Attributes:
        values: Objectives; empty where there are none.
        reason: Why it failed; empty if it did not.
        traceback: Where it failed.
        lost: Whether it ended by no doing of its own (Ctrl-C, a node that went away): it does not count.
    """

    values: Sequence[float] = ()
    reason: str = ""
    traceback: str = ""
    lost: bool = False


@dataclass
class Budget:
    """How many trials there are to be, and how they are chosen."""

    n_trials: int
    grid: list[dict[str, Any]] | None = None
    retries: int = 1
    first: Sequence[Mapping[str, Any]] = field(default_factory=list)


class SweepStudy:
    """One process's hold on the study.

    Args:
        storage: The opened storage.
        name: Name of the study.
        directions: `maximize` or `minimize`, one an objective.
        objectives: Canonical names.
        space: The search space.
        hook: Draws conditional parameters.
        config: The composed config, for the hook.
        sampler: Makes the sampler that draws the parameters of a trial, given its number.
        budget: How many trials.
        turn: The lock that all processes share.
        grace_s: Silence after which a trial of another machine is lost.

    Attributes:
        lost: Numbers of the trials that were found to be lost here, for the caller to take out.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        directions: Sequence[str],
        objectives: Sequence[str],
        space: SearchSpace,
        hook: Hook | None,
        config: Any,
        sampler: Callable[[int], BaseSampler],
        budget: Budget,
        turn: Callable[[], AbstractContextManager[None]],
        grace_s: float,
    ) -> None:
        self.name, self.space, self.hook, self.config, self.budget = name, space, hook, config, budget
        self._turn, self._sampler = turn, sampler
        self._pulses = owner.Pulses(grace_s)
        self._me = owner.me()
        self._running: set[int] = set()
        self._mine = threading.Lock()
        self.lost: list[int] = []
        with turn():
            self.study = optuna.create_study(
                storage=storage, study_name=name, directions=list(directions), load_if_exists=True
            )
            self.storage = self.study._storage
            self._compare(directions, objectives)
            if not self.study.get_trials(deepcopy=False):
                for point in budget.first:
                    self.study.enqueue_trial(dict(point))

    def _compare(self, directions: Sequence[str], objectives: Sequence[str]) -> None:
        """Refuse a study of another search; its trials would not be comparable."""
        wanted = {**self.space.fingerprint(), "directions": list(directions), "objectives": list(objectives)}
        stored = self.study.user_attrs.get(FINGERPRINT)
        if stored is None:
            if self.study.get_trials(deepcopy=False):
                raise ConfigError(
                    [Problem("hydra.sweeper.study_name", "a study of this name exists that no sweep of ours made")]
                )
            self.study.set_user_attr(FINGERPRINT, wanted)
            return
        found = differences(stored, wanted)
        if found:
            advice = (
                "the stored study of this name searches something else, and its trials would not be comparable:\n"
                + "\n".join(f"  {line}" for line in found)
                + "\nGive another hydra.sweeper.study_name or hydra.sweep.dir, or repeat the stored search."
            )
            raise ConfigError([Problem("hydra.sweeper.study_name", advice, repr(self.name))])

    def trials(self) -> list[FrozenTrial]:
        """Every trial, oldest first; not to be changed."""
        found: list[FrozenTrial] = self.study.get_trials(deepcopy=False)
        return found

    def claim(self) -> Trial | None:
        """The next trial, with its parameters drawn; None if the budget is used up for now (see `is_over`)."""
        with self._turn():
            trials = self._recover()
            if sum(map(counts, trials)) >= self.budget.n_trials:
                return None
            trial_id = self._take_waiting(trials)
            if trial_id is None:
                trial_id = self._create(trials)
            if trial_id is None:
                return None
            with self._mine:
                self._running.add(trial_id)
        number = self.storage.get_trial_number_from_id(trial_id)
        study = optuna.Study(self.name, self.storage, self._sampler(number), self.study.pruner)
        trial = Trial(study, trial_id)
        for name, distribution in self.space.distributions.items():
            trial._suggest(name, distribution)
        if self.hook is not None:
            self.hook(self.config, trial)
        return trial

    def is_over(self) -> bool:
        """Whether nothing is left to do, here or elsewhere: no trial runs that might be lost."""
        trials = self.trials()
        running = any(trial.state == TrialState.RUNNING for trial in trials)
        return not running and sum(map(counts, trials)) >= self.available(trials)

    def available(self, trials: Sequence[FrozenTrial]) -> int:
        """How many trials there can be: the budget, or what is left of the grid."""
        return self.budget.n_trials if self.budget.grid is None else min(self.budget.n_trials, len(self.budget.grid))

    def tell(self, trial: Trial, outcome: Outcome) -> FrozenTrial:
        """Store what became of a trial. A trial that was given up meanwhile stays as it is."""
        try:
            return self._tell(trial, outcome)
        finally:
            with self._mine:
                self._running.discard(trial._trial_id)

    def _tell(self, trial: Trial, outcome: Outcome) -> FrozenTrial:
        found = self.storage.get_trial(trial._trial_id)
        if found.state.is_finished():
            return found
        if outcome.lost:
            with self._turn():
                self._lose(found, self.trials(), outcome.reason, forgive=True)
        elif outcome.reason:
            self._fail(trial._trial_id, outcome.reason)
        elif PRUNED_AT in found.user_attrs:
            self.study.tell(trial.number, state=TrialState.PRUNED)
        elif len(outcome.values) != len(self.study.directions) or any(map(math.isnan, outcome.values)):
            self._fail(trial._trial_id, "the objective is undefined (NaN)")
        else:
            self.study.tell(trial.number, list(outcome.values))
        return self.storage.get_trial(trial._trial_id)

    def beat(self) -> None:
        """Give a sign of life for each trial that runs here."""
        with self._mine:
            running = list(self._running)
        for trial_id in running:
            try:
                beat = self.storage.get_trial(trial_id).system_attrs.get(owner.BEAT, 0)
                self.storage.set_trial_system_attr(trial_id, owner.BEAT, beat + 1)
            except optuna.exceptions.UpdateFinishedTrialError:
                continue

    def _recover(self) -> list[FrozenTrial]:
        """Mark trials whose process has died as lost, and queue each once more."""
        trials = self.trials()
        lost = False
        for trial in trials:
            if trial.state != TrialState.RUNNING or trial._trial_id in self._running:
                continue
            process = trial.system_attrs.get(owner.OWNER)
            gone = owner.is_gone(process)
            if gone is None:
                gone = self._pulses.is_silent(trial._trial_id, trial.system_attrs.get(owner.BEAT))
            elif process["pid"] == self._me["pid"]:
                gone = True  # this process began it and no longer runs it
            if gone:
                self._lose(trial, trials, LOST, forgive=False)
                self.lost.append(trial.number)
                lost = True
        return self.trials() if lost else trials

    def _lose(self, trial: FrozenTrial, trials: Sequence[FrozenTrial], reason: str, *, forgive: bool) -> None:
        """FAIL, not counted, queued again unless it was lost before. Queued first: a kill in between costs nothing."""
        tries = trial.system_attrs.get(_TRIES, 0) + (0 if forgive else 1)
        params = {**trial.system_attrs.get(_FIXED, {}), **trial.params}
        queued = any(other.system_attrs.get(_RETRY_OF) == trial.number for other in trials)
        # A point of a grid is never given up: nothing else would ever try it.
        again = _GRID in trial.system_attrs or tries <= self.budget.retries
        if params and again and not queued:
            kept = {_GRID: trial.system_attrs[_GRID]} if _GRID in trial.system_attrs else {}
            attrs = {_FIXED: params, _RETRY_OF: trial.number, _TRIES: tries, **kept}
            self._add(TrialState.WAITING, attrs, {"retry_of": trial.number})
        self.storage.set_trial_user_attr(trial._trial_id, "lost", True)
        self._fail(trial._trial_id, reason)

    def _fail(self, trial_id: int, reason: str) -> None:
        self.storage.set_trial_user_attr(trial_id, "reason", reason[:2000])
        self.storage.set_trial_state_values(trial_id, state=TrialState.FAIL)

    def _take_waiting(self, trials: Sequence[FrozenTrial]) -> int | None:
        for trial in trials:
            if trial.state == TrialState.WAITING:
                self.storage.set_trial_system_attr(trial._trial_id, owner.OWNER, self._me)
                if self.storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                    return int(trial._trial_id)
        return None

    def _create(self, trials: Sequence[FrozenTrial]) -> int | None:
        """Begin a new trial, or the first point of the grid that no trial stands for."""
        attrs: dict[str, Any] = {owner.OWNER: self._me}
        if self.budget.grid is not None:
            taken = {trial.system_attrs.get(_GRID) for trial in trials if counts(trial) or is_waiting(trial)}
            index = next((index for index in range(len(self.budget.grid)) if index not in taken), None)
            if index is None:
                return None
            attrs |= {_GRID: index, _FIXED: self.budget.grid[index]}
        return self._add(TrialState.RUNNING, attrs)

    def _add(self, state: TrialState, attrs: dict[str, Any], shown: dict[str, Any] | None = None) -> int:
        """Create a trial together with its attributes, in one transaction: a kill leaves all of it or nothing."""
        started = datetime.now() if state == TrialState.RUNNING else None
        template = FrozenTrial(-1, state, None, started, None, {}, {}, shown or {}, attrs, {}, -1)
        return int(self.storage.create_new_trial(self.study._study_id, template_trial=template))


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial uses up a part of the budget."""
    if trial.state == TrialState.RUNNING:
        return True
    return trial.state in _DONE and not trial.user_attrs.get("lost")


def is_waiting(trial: FrozenTrial) -> bool:
    """Whether a trial is queued."""
    return bool(trial.state == TrialState.WAITING)


def failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed by its own doing."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get("lost")
