"""What a sweep is going to do, found out and checked before anything is stored."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from watchme.config.schema import RunConfig
from watchme.config.suggestions import one_of
from watchme.config.validation import _Walk, validate
from watchme.core.errors import ConfigError, Problem
from watchme.core.metric_names import higher_is_better
from watchme.sweep import storage
from watchme.sweep import sweep_dir as folders
from watchme.sweep.plugin import SweepConfig
from watchme.sweep.pruning_callback import PRUNER
from watchme.sweep.samplers import make_pruner, make_sampler
from watchme.sweep.search_space import SearchSpace, load_hook, parse, plain_key
from watchme.sweep.study import Budget, SweepStudy

_DEFAULT_TRIALS = 20
_MOST_CHECKS = 16
_KEY = "hydra.sweeper"
# What the name of a study says already.
_NAMED = ("sweeper", "model", "dataset")


@dataclass(frozen=True)
class Plan:
    """A sweep, ready to run.

    Attributes:
        settings: `hydra.sweeper`.
        config: The composed config of the sweep.
        context: Hydra's, for composing.
        space: What is searched.
        sampler: Name of the sampler.
        grid: Every point, where the sampler is grid.
        n_trials: The budget.
        objectives: Canonical names.
        directions: `maximize` or `minimize`.
        study_name: Name of the study.
        folder: The sweep's folder.
        storage: The study's storage, as `storage.resolve` names it.
        epochs: Epochs of a whole trial.
        typed: The config of the first point.
    """

    settings: SweepConfig
    config: DictConfig
    context: HydraContext
    space: SearchSpace
    sampler: str
    grid: list[dict[str, Any]] | None
    n_trials: int
    objectives: list[str]
    directions: list[str]
    study_name: str
    folder: Path
    storage: str
    epochs: int
    typed: RunConfig

    def open_study(self) -> SweepStudy:
        """Open or create the study.

        Raises:
            ConfigError: If the folder or the name belongs to another search.
        """
        settings = self.settings
        hook = load_hook(settings.custom_search_space)
        folders.occupy(self.folder, self.study_name, self.storage)
        turn = storage.turn(self.storage, self.study_name)
        with turn():  # two processes at once must not both create the tables
            opened = storage.open_storage(self.storage)
        study = SweepStudy(
            storage=opened,
            name=self.study_name,
            directions=self.directions,
            objectives=self.objectives,
            space=self.space,
            hook=hook,
            config=self.config,
            sampler=self.make_sampler,
            budget=Budget(self.n_trials, self.grid, first=settings.points_to_evaluate),
            turn=turn,
            grace_s=settings.grace_s,
        )
        if not study.trials():
            folders.refuse_orphans(self.folder)
        pruner = {"name": settings.pruner, "options": settings.pruner_options, "epochs": self.epochs}
        if study.study.user_attrs.get(PRUNER) != pruner:
            study.study.set_user_attr(PRUNER, pruner)
        return study

    def make_sampler(self, number: int) -> BaseSampler:
        """The sampler of a trial. With a seed, trial N draws the same however often the sweep was stopped before."""
        seed = self.settings.seed
        return make_sampler(
            self.sampler, self.settings.sampler_options, None if seed is None else (seed * 1_000_003 + number) % 2**32
        )

    def identity(self, trial: Trial) -> list[str]:
        """The override that tells a run which trial it is."""
        told = {
            "storage": self.storage,
            "study": self.study_name,
            "number": trial.number,
            "trial_id": trial._trial_id,
            "prune": self.settings.pruner != "none",
            "keep_pruned_weights": self.settings.keep_pruned_weights,
            "objectives": self.objectives,
        }
        return ["++trial={" + ",".join(f"{key}:{json.dumps(value)}" for key, value in told.items()) + "}"]

    def compose(self, params: Mapping[str, Any]) -> DictConfig:
        """Compose the config of a trial with these parameters."""
        return _compose(self.context, self.config, self.space.overrides(params))


def typed_settings(settings: Mapping[str, Any]) -> SweepConfig:
    """Check `hydra.sweeper` as every other section of the config is checked.

    Raises:
        ConfigError: With every problem.
    """
    problems: list[Problem] = []
    node = OmegaConf.create({"hydra": {"sweeper": dict(settings)}})
    typed = _Walk(node, "", problems, set()).dataclass(SweepConfig, dict(settings), _KEY)
    if problems or typed is None:
        raise ConfigError(problems)
    result: SweepConfig = typed
    return result


def make_plan(settings: SweepConfig, config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> Plan:
    """Find out what a sweep is to do, and check it, trials included.

    Raises:
        ConfigError: With what would have broken its trials.
    """
    space = parse(settings.params, arguments)
    typed, first = _check_points(space, context, config)
    objectives = settings.objectives or [typed.objective]
    directions: list[str] = list(
        settings.directions or ["maximize" if higher_is_better(name) else "minimize" for name in objectives]
    )
    problems = [
        *_search_problems(settings, space, objectives, directions),
        *_test_problems(settings, typed, objectives),
    ]
    if problems:
        raise ConfigError(problems)
    grid = space.grid() if settings.sampler in (None, "grid") else None
    sampler = settings.sampler or ("grid" if grid is not None else "tpe")
    make_sampler(sampler, settings.sampler_options, settings.seed)
    make_pruner(settings.pruner, settings.pruner_options, typed.train.epochs)
    n_trials = settings.n_trials or (len(grid) if grid is not None else _DEFAULT_TRIALS)
    name = settings.study_name or _study_name(space, typed, first, sampler)
    folder = folders.pin(config, _folder(config, name))
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
    )


def _search_problems(
    settings: SweepConfig, space: SearchSpace, objectives: Sequence[str], directions: Sequence[str]
) -> list[Problem]:
    problems = []
    if settings.sampler == "grid" and space.grid() is None:
        endless = [
            name for name, found in space.distributions.items() if SearchSpace({name: found}, {}, []).grid() is None
        ]
        expected = "a grid needs listed values: a,b,c or range(a,b,step)"
        problems += [Problem(name, expected, str(space.distributions[name])) for name in endless]
    if len(objectives) > 1 and settings.pruner != "none":
        expected = "pruning needs one objective; set pruner=none, or leave one in hydra.sweeper.objectives"
        problems.append(Problem(f"{_KEY}.pruner", expected, settings.pruner))
    if len(directions) != len(objectives):
        expected = f"expected {len(objectives)}, one for each of {', '.join(objectives)}"
        problems.append(Problem(f"{_KEY}.directions", expected, str(list(directions))))
    known = set(space.distributions)
    if settings.custom_search_space is None:
        for point in settings.points_to_evaluate:
            problems += [
                Problem(f"{_KEY}.points_to_evaluate", one_of(name, sorted(known)), str(name))
                for name in point
                if name not in known
            ]
    return problems


def _test_problems(settings: SweepConfig, typed: RunConfig, objectives: Sequence[str]) -> list[Problem]:
    """A search that selects on the test split makes its numbers worthless, so it must be asked for by name."""
    if settings.tune_on_test:
        return []
    advice = f"would tune on the test split; its result would then prove nothing. {_KEY}.tune_on_test=true allows it"
    problems = [Problem(f"{_KEY}.objectives", advice, name) for name in objectives if name.startswith("test/")]
    if getattr(typed.dataset, "select_on_test", False):
        problems.append(Problem("dataset.select_on_test", advice, "true"))
    if typed.mode == "evaluate" and getattr(typed.evaluation, "split", None) not in ("val", "train"):
        hint = "; evaluation.split=val does not" if hasattr(typed.evaluation, "split") else ""
        problems.append(Problem("mode", advice + hint, "evaluate"))
    return problems


def _check_points(space: SearchSpace, context: HydraContext, config: DictConfig) -> tuple[RunConfig, DictConfig]:
    """Compose and validate points of the space that hold each of its choices; returns the first point's config."""
    base = {name: _value(found) for name, found in space.distributions.items()}
    points = [base]
    for name, found in space.distributions.items():
        if isinstance(found, CategoricalDistribution):
            points += [{**base, name: choice} for choice in found.choices[1:]]
    problems: dict[tuple[str, str], Problem] = {}
    results: list[tuple[RunConfig, DictConfig]] = []
    for point in points[:_MOST_CHECKS]:
        try:
            composed = _compose(context, config, space.overrides(point))
            job = composed.copy()
            with open_dict(job):
                del job["hydra"]
            results.append((validate(job), composed))
        except ConfigError as error:
            problems |= {(problem.key, problem.expected): problem for problem in error.problems}
    if problems:
        raise ConfigError(list(problems.values()))
    return results[0]


def _compose(context: HydraContext, config: DictConfig, overrides: list[str]) -> DictConfig:
    try:
        return context.config_loader.load_sweep_config(config, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        text = "\n".join(line for line in str(error).splitlines() if line.strip())
        raise ConfigError([Problem("overrides", text, " ".join(overrides))]) from None


def _value(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return getattr(distribution, "low")  # noqa: B009  (every other distribution is a range)


def _study_name(space: SearchSpace, typed: RunConfig, first: DictConfig, sampler: str) -> str:
    """`yolo_tune-yolo11n-demo_detection`; with a mark of the rest of the command line if there is any."""
    option = OmegaConf.select(first, "hydra.runtime.choices.sweeper")
    parts = [sampler if option in (None, "none") else str(option), typed.model.name, typed.dataset.name]
    shown = space.fingerprint()
    rest = [override for override in shown["fixed"] if plain_key(override) not in _NAMED]
    if rest or option in (None, "none"):
        text = json.dumps([rest, shown["space"]], sort_keys=True)
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
            # Jobs compose anew, and Hydra refuses one whose sweeper's settings differ from the sweep's.
            config.hydra.sweeper.study_name = given
