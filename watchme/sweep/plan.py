"""What a sweep will do, worked out and checked before anything is stored."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna.samplers import BaseSampler

from watchme.config.overrides import override_text
from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError
from watchme.core.metric_names import higher_is_better
from watchme.io.run_lookup import MANIFEST
from watchme.sweep import storage
from watchme.sweep import sweep_dir as folders
from watchme.sweep.hooks import Hook, load_hook
from watchme.sweep.pruning_callback import PRUNER
from watchme.sweep.samplers import make_pruner, make_sampler
from watchme.sweep.search_space import SearchSpace, parse_space
from watchme.sweep.settings import SweepConfig
from watchme.sweep.study import SweepStudy
from watchme.sweep.sweep_rules import (
    compose_trial,
    first_points,
    search_problems,
    test_split_problems,
    validate_choices,
)
from watchme.sweep.trial_outcome import Claim

_DEFAULT_TRIALS = 20
_KEY = "hydra.sweeper"
# Keys that the name of a study holds already.
_NAMED = ("sweeper", "model", "dataset")


@dataclass(frozen=True)
class Plan:
    """A sweep, ready to run."""

    settings: SweepConfig  # `hydra.sweeper`
    config: DictConfig  # the composed config of the sweep
    context: HydraContext  # Hydra's, for composing
    space: SearchSpace  # what is searched
    sampler: str  # name of the sampler
    grid: list[dict[str, Any]] | None  # every point, where the sampler is grid
    n_trials: int  # the budget
    objectives: list[str]  # canonical names
    directions: list[str]  # `maximize` or `minimize`
    study_name: str  # name of the study
    folder: Path  # the sweep's folder
    storage: str  # the study's storage, as `storage.resolve` names it
    epochs: int  # epochs of a whole trial
    typed: RunConfig  # the config of the first point
    hook: Hook | None  # draws conditional parameters
    first: Sequence[Mapping[str, Any]]  # parameters of the trials that are run first

    def open_study(self) -> SweepStudy:
        """Open or create the study.

        Raises:
            ConfigError: If the folder or the name belongs to another search.
        """
        settings = self.settings
        folders.occupy(self.folder, self.study_name, self.storage)
        turn = storage.turn(self.storage, self.study_name)
        with turn():  # two processes at once must not both create the tables
            opened = storage.open_storage(self.storage)
        study = SweepStudy(
            storage=opened,
            name=self.study_name,
            directions=self.directions,
            identity=self.identity(),
            space=self.space,
            hook=self.hook,
            config=self.config,
            sampler=self.make_sampler,
            n_trials=self.n_trials,
            grid=self.grid,
            first=self.first,
            turn=turn,
            grace_s=settings.grace_s,
        )
        if not study.trials():
            folders.refuse_orphans(self.folder)
        pruner = {"name": settings.pruner, "options": settings.pruner_options, "epochs": self.epochs}
        if study.study.user_attrs.get(PRUNER) != pruner:
            study.study.set_user_attr(PRUNER, pruner)
        return study

    def identity(self) -> dict[str, Any]:
        """What must be equal for trials to belong to one study."""
        return {
            **self.space.fingerprint(),
            "objectives": self.objectives,
            "directions": self.directions,
            "custom_search_space": self.settings.custom_search_space,
        }

    def make_sampler(self, number: int) -> BaseSampler:
        """The sampler of a trial. With a seed, trial N draws the same, however often the sweep was stopped before."""
        seed = self.settings.seed
        return make_sampler(
            self.sampler, self.settings.sampler_options, None if seed is None else (seed * 1_000_003 + number) % 2**32
        )

    def trial_folder(self, claim: Claim) -> Path:
        """The run folder of a trial by `hydra.sweep.subdir`; with the number added if another trial has that folder."""
        path = self.folder / str(claim.number)
        hydra: Any = OmegaConf.to_container(self.config.hydra, resolve=False)
        if hydra["sweep"]["subdir"] != "${hydra.job.num}":
            config = self.compose(claim.params)
            with read_write(config.hydra), open_dict(config.hydra):
                config.hydra.job.num, config.hydra.job.id = claim.number, f"job_id_for_{claim.number}"
            path = self.folder / str(config.hydra.sweep.subdir)
        return path.with_name(f"{path.name}-{claim.number}") if (path / MANIFEST).exists() else path

    def overrides(self, claim: Claim, folder: Path) -> list[str]:
        """All overrides of a trial's run: parameters, folder, and `trial`, by which the run finds its trial."""
        trial = {
            "storage": self.storage,
            "study": self.study_name,
            "number": claim.number,
            "trial_id": claim.trial_id,
            "prune": self.settings.pruner != "none",
            "keep_pruned_weights": self.settings.keep_pruned_weights,
            "objectives": self.objectives,
            "parameters": list(claim.params),
        }
        return [
            *self.space.overrides(claim.params),
            f"hydra.sweep.subdir={override_text(os.path.relpath(folder, self.folder))}",
            f"++trial={override_text(trial)}",
        ]

    def compose(self, params: Mapping[str, Any]) -> DictConfig:
        """Compose the config of a trial with these parameters."""
        return compose_trial(self.context, self.config, self.space.overrides(params))


def make_plan(settings: SweepConfig, config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> Plan:
    """Work out what a sweep will do, and check it, the configs of its trials included.

    Raises:
        ConfigError: With every problem that would have broken its trials.
    """
    space = parse_space(settings.params, arguments, context.config_loader, settings.seed)
    hook = load_hook(settings.custom_search_space)
    typed, composed = validate_choices(settings, space, hook, context, config)
    objectives = settings.objectives or [typed.objective]
    directions: list[str] = list(
        settings.directions or ["maximize" if higher_is_better(name) else "minimize" for name in objectives]
    )
    points, problems = first_points(settings, space)
    problems += [
        *search_problems(settings, space, objectives, directions),
        *test_split_problems(settings, typed, objectives),
    ]
    if problems:
        raise ConfigError(problems)
    grid = space.grid() if settings.sampler in (None, "grid") else None
    sampler = settings.sampler or ("grid" if grid is not None else "tpe")
    make_sampler(sampler, settings.sampler_options, settings.seed)
    make_pruner(settings.pruner, settings.pruner_options, typed.train.epochs)
    n_trials = settings.n_trials or (len(grid) if grid is not None else _DEFAULT_TRIALS)
    name = settings.study_name or _study_name(space, settings, typed, composed, sampler)
    folder = folders.prepare(config, _folder(config, name))
    return Plan(
        settings=settings,
        config=config,
        context=context,
        space=space,
        sampler=sampler,
        grid=grid,
        n_trials=min(n_trials, len(grid)) if grid is not None else n_trials,
        objectives=list(objectives),
        directions=directions,
        study_name=name,
        folder=folder,
        storage=storage.resolve(settings.storage, folder),
        epochs=typed.train.epochs,
        typed=typed,
        hook=hook,
        first=points,
    )


def _study_name(space: SearchSpace, settings: SweepConfig, typed: RunConfig, composed: DictConfig, sampler: str) -> str:
    """`yolo_tune-yolo11n-demo_detection`; with a mark of the rest of the command line if there is any."""
    option = OmegaConf.select(composed, "hydra.runtime.choices.sweeper")
    parts = [sampler if option in (None, "none") else str(option), typed.model.name, typed.dataset.name]
    identity = space.fingerprint()
    rest = [override for override in identity["fixed"] if override not in {space.fixed.get(key) for key in _NAMED}]
    hook_key = f"{_KEY}.custom_search_space"
    if any(hook_key in override for override in composed.hydra.overrides.hydra):
        rest.append(f"{hook_key}={settings.custom_search_space}")
    if rest or option in (None, "none"):
        text = json.dumps([rest, identity["space"]], sort_keys=True)
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:6])
    return folders.slug("-".join(parts))


def _folder(config: DictConfig, name: str) -> Path:
    """`hydra.sweep.dir`, whose default holds the study's name."""
    with read_write(config.hydra), open_dict(config.hydra):
        given = config.hydra.sweeper.study_name
        config.hydra.sweeper.study_name = name
        try:
            return Path(str(config.hydra.sweep.dir))
        finally:
            # Each job composes its config again, and Hydra refuses one whose hydra.sweeper differs from the sweep's.
            config.hydra.sweeper.study_name = given
