"""A study and its budget: which trial is next, which trials are lost, and the result of each.

A trial counts if it is complete, pruned, failed, or running. One whose process died is lost: it is marked FAIL, does
not count, and is tried once more. All decisions are made under a lock that every process of the study shares, so that
processes on several machines together run exactly `n_trials`.
"""

import contextlib
import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from watchme.core.errors import ConfigError, Problem
from watchme.core.liveness import has_ended, this_process
from watchme.sweep.heartbeats import BEAT, OWNER, Heartbeats
from watchme.sweep.hooks import Hook
from watchme.sweep.optuna_compat import FIXED_PARAMS, attach, storage_of
from watchme.sweep.pruning_callback import PRUNED_AT
from watchme.sweep.retry import is_outage, retry
from watchme.sweep.search_space import SearchSpace, suggest
from watchme.sweep.study_differences import differences
from watchme.sweep.trial_outcome import Claim, Outcome
from watchme.sweep.trial_states import FOLDER, LOST, MEASURED, counts, has_result, measured_names

FINGERPRINT = "watchme:search_space"
DIED = "its process ended without a word"
_GRID = "watchme:grid"
_RETRY_OF = "watchme:retry_of"
_TRIES = "watchme:tries"
_RETRIES = 1  # of a lost trial


class SweepStudy:
    """The study, as one of the processes that share it uses it."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        directions: Sequence[str],  # `maximize` or `minimize`, one per objective
        identity: Mapping[str, Any],  # what must be equal for trials to belong to the study
        space: SearchSpace,
        hook: Hook | None,  # draws conditional parameters
        config: Any,  # the composed config, for the hook
        sampler: Callable[[int], BaseSampler],  # makes the sampler that draws the parameters of a trial by its number
        n_trials: int,
        grid: list[dict[str, Any]] | None,  # its points, where the sampler is grid
        turn: Callable[[], AbstractContextManager[None]],  # the lock that all processes share
        grace_s: float,  # seconds without a heartbeat after which a trial of another machine is lost
        first: Sequence[Mapping[str, Any]] = (),  # parameters of the trials that are run first
    ) -> None:
        self.name, self.space, self.hook, self.config = name, space, hook, config
        self.n_trials, self.grid = n_trials, grid
        self._turn, self._sampler = turn, sampler
        self._heartbeats = Heartbeats(grace_s)
        self._me = this_process()
        self._running: dict[int, int] = {}  # number -> id
        self._mine = threading.Lock()
        self.lost: list[int] = []  # trials that this process has found to be lost; the caller removes what it handled
        with turn():
            self.study = optuna.create_study(
                storage=storage, study_name=name, directions=list(directions), load_if_exists=True
            )
            self.storage = storage_of(self.study)
            self._study_id = self.storage.get_study_id_from_name(name)
            self._compare(identity)
            if not self.study.get_trials(deepcopy=False):
                for point in first:
                    self.study.enqueue_trial(dict(point))

    def _compare(self, wanted: Mapping[str, Any]) -> None:
        """Refuse the study of another search, whose trials would not be comparable."""
        stored = self.study.user_attrs.get(FINGERPRINT)
        if stored is None:
            if self.study.get_trials(deepcopy=False):
                raise ConfigError(
                    [Problem("hydra.sweeper.study_name", "a study of this name exists that was not made by watchme")]
                )
            self.study.set_user_attr(FINGERPRINT, dict(wanted))
            return
        # Until 2026-11 the hook was not stored.
        found = differences({"custom_search_space": wanted["custom_search_space"], **stored}, wanted)
        if found:
            advice = (
                "the stored study of this name searches something else, and its trials would not be comparable:\n"
                + "\n".join(f"  {line}" for line in found)
                + "\nGive another hydra.sweeper.study_name or hydra.sweep.dir, or repeat the stored search."
            )
            raise ConfigError([Problem("hydra.sweeper.study_name", advice, repr(self.name))])

    def trials(self) -> list[FrozenTrial]:
        """Every trial, oldest first; not to be changed."""
        return retry(lambda: self.study.get_trials(deepcopy=False))

    def claim(self) -> Claim | None:
        """The next trial, with its parameters drawn; None if the budget is used up for now (see `is_over`)."""
        reserved = retry(self._reserve)
        return None if reserved is None else retry(lambda: self._draw(*reserved))

    def _reserve(self) -> tuple[int, int] | None:
        """Number and id of a trial that this process now runs. An outage makes it a lost one, which does not count."""
        number = -1
        try:
            with self._turn():
                trials = self._recover()
                if sum(map(counts, trials)) >= self.n_trials:
                    return None
                trial_id = self._take_waiting(trials)
                if trial_id is None:
                    trial_id = self._create(trials)
                if trial_id is None:
                    return None
                number = self.storage.get_trial_number_from_id(trial_id)
                with self._mine:
                    self._running[number] = trial_id
        except BaseException:
            with self._mine:
                self._running.pop(number, None)
            raise
        return number, trial_id

    def _draw(self, number: int, trial_id: int) -> Claim:
        """Draw the parameters of a trial; those that are drawn already stay."""
        study = copy.copy(self.study)  # a sampler of its own: other slots draw at the same time
        study.sampler = self._sampler(number)
        trial = attach(study, trial_id)
        for name, distribution in self.space.distributions.items():
            suggest(trial, name, distribution)
        error = None
        if self.hook is not None:
            try:
                self.hook(self.config, trial)
            except Exception as raised:  # whatever a user's function raises fails its trial, not the sweep
                if is_outage(raised):
                    raise
                error = raised
        return Claim(number, trial_id, trial.params, error)

    def is_over(self) -> bool:
        """Whether nothing is left to do, here or elsewhere: no trial runs that might be lost."""
        trials = self.trials()
        running = any(trial.state == TrialState.RUNNING for trial in trials)
        return not running and sum(map(counts, trials)) >= self.available

    @property
    def available(self) -> int:
        """How many trials there can be: the budget, or the points of the grid if they are fewer."""
        return self.n_trials if self.grid is None else min(self.n_trials, len(self.grid))

    def finish(self, claim: Claim, outcome: Outcome) -> FrozenTrial:
        """Store the outcome of a trial, and return it. One that another process took for lost stays lost."""

        def store() -> FrozenTrial:
            found = self.storage.get_trial(claim.trial_id)
            if not found.state.is_finished():
                self._store(found, claim.trial_id, outcome)
            return self.storage.get_trial(claim.trial_id)

        try:
            return retry(store)
        finally:
            with self._mine:
                self._running.pop(claim.number, None)

    def _store(self, trial: FrozenTrial, trial_id: int, outcome: Outcome) -> None:
        if outcome.lost:
            with self._turn():
                self._lose(trial, trial_id, self.trials(), outcome.reason, forgive=True)
        elif outcome.reason:
            self._fail(trial_id, outcome.reason)
        elif unlike := self._unlike(trial):
            self._fail(trial_id, unlike)
        elif PRUNED_AT in trial.user_attrs:
            self.study.tell(trial.number, state=TrialState.PRUNED)
        elif len(outcome.values) != len(self.study.directions) or any(map(math.isnan, outcome.values)):
            self._fail(trial_id, "the objective is undefined (NaN)")
        else:
            self.study.tell(trial.number, list(outcome.values))

    def _unlike(self, trial: FrozenTrial) -> str:
        """Why a trial's value must not be ranked among the others'; empty if it may, or if there is none."""
        mine = trial.user_attrs.get(MEASURED)
        if not mine:
            return ""
        others = measured_names(mine, [other for other in self.trials() if has_result(other)])
        if mine == others:
            return ""
        return (
            f"it measured {', '.join(mine)}, where the study's trials measured {', '.join(others)}: not comparable. "
            "Search datasets in which people are seen by several cameras, or those in which nobody is, in one study"
        )

    def set_folder(self, claim: Claim, folder: Path) -> None:
        """Store the run folder of a trial."""
        retry(lambda: self.storage.set_trial_user_attr(claim.trial_id, FOLDER, str(folder)))

    def beat(self) -> None:
        """Store a heartbeat for each trial that runs here."""
        with self._mine:
            running = list(self._running.values())
        for trial_id in running:
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                beat = self.storage.get_trial(trial_id).system_attrs.get(BEAT, 0)
                self.storage.set_trial_system_attr(trial_id, BEAT, beat + 1)

    def _recover(self) -> list[FrozenTrial]:
        """Mark trials whose process has died as lost, and queue each once more."""
        trials = self.trials()
        lost = False
        for trial in trials:
            if trial.state != TrialState.RUNNING or trial.number in self._running:
                continue
            process = trial.system_attrs.get(OWNER)
            gone = has_ended(process)
            if gone is None:
                gone = self._heartbeats.has_stopped(trial.number, trial.system_attrs.get(BEAT))
            elif process["pid"] == self._me["pid"]:
                gone = True  # this process started it and no longer runs it
            if gone:
                self._lose(trial, self._id(trial), trials, DIED, forgive=False)
                self.lost.append(trial.number)
                lost = True
        return self.trials() if lost else trials

    def _lose(
        self, trial: FrozenTrial, trial_id: int, trials: Sequence[FrozenTrial], reason: str, *, forgive: bool
    ) -> None:
        """FAIL, not counted, queued again unless it was lost before. Queued first: a kill in between costs nothing."""
        tries = trial.system_attrs.get(_TRIES, 0) + (0 if forgive else 1)
        params = {**trial.system_attrs.get(FIXED_PARAMS, {}), **trial.params}
        queued = any(other.system_attrs.get(_RETRY_OF) == trial.number for other in trials)
        # A point of a grid is never given up: nothing else would ever try it.
        again = _GRID in trial.system_attrs or tries <= _RETRIES
        if params and again and not queued:
            kept = {_GRID: trial.system_attrs[_GRID]} if _GRID in trial.system_attrs else {}
            attrs = {FIXED_PARAMS: params, _RETRY_OF: trial.number, _TRIES: tries, **kept}
            self._add(TrialState.WAITING, attrs, {"retry_of": trial.number})
        self.storage.set_trial_user_attr(trial_id, LOST, True)
        self._fail(trial_id, reason)

    def _fail(self, trial_id: int, reason: str) -> None:
        self.storage.set_trial_user_attr(trial_id, "reason", reason[:2000])
        self.storage.set_trial_state_values(trial_id, state=TrialState.FAIL)

    def _take_waiting(self, trials: Sequence[FrozenTrial]) -> int | None:
        for trial in trials:
            if trial.state == TrialState.WAITING:
                trial_id = self._id(trial)
                self.storage.set_trial_system_attr(trial_id, OWNER, self._me)
                if self.storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                    return trial_id
        return None

    def _create(self, trials: Sequence[FrozenTrial]) -> int | None:
        """Start a new trial, or the first point of the grid that has none."""
        attrs: dict[str, Any] = {OWNER: self._me}
        if self.grid is not None:
            taken = {
                trial.system_attrs.get(_GRID) for trial in trials if counts(trial) or trial.state == TrialState.WAITING
            }
            index = next((index for index in range(len(self.grid)) if index not in taken), None)
            if index is None:
                return None
            attrs |= {_GRID: index, FIXED_PARAMS: self.grid[index]}
        return self._add(TrialState.RUNNING, attrs)

    def _add(self, state: TrialState, attrs: dict[str, Any], shown: dict[str, Any] | None = None) -> int:
        """Create a trial together with its attributes, in one transaction: a kill leaves all of it or nothing."""
        template = create_trial(state=state, user_attrs=shown, system_attrs=attrs)
        return int(self.storage.create_new_trial(self._study_id, template_trial=template))

    def _id(self, trial: FrozenTrial) -> int:
        return int(self.storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number))
