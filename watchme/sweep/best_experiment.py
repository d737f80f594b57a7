"""experiment/best.yaml: the best trial as an experiment, `python train.py --config-dir <sweep dir> experiment=best`."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.trial import FrozenTrial

from watchme.config.overrides import parse_overrides
from watchme.core.formatting import flatten, relative
from watchme.core.invocation import as_started
from watchme.io.files import replace_text
from watchme.sweep.plan import Plan

# Keys that belong to a sweep or to one run, not to what is trained.
_NOT_KEPT = ("trial", "mode", "checkpoint", "tracker", "output_root", "hydra")
_NO_GROUPS = ("experiment", "sweeper", "debug", "tracker")
_DERIVED = "model.family."


def write_experiment(plan: Plan, best: FrozenTrial) -> Path:
    """Write the experiment of the best trial.

    Its values are the trial's parameters, the sweep's own fixed overrides, and whatever else the sweep's options
    (`sweeper`, `experiment`) or the environment had set; the config that it gives equals the trial's.
    """
    trial = plan.compose(best.params)
    choices: Mapping[str, Any] = trial.hydra.runtime.choices
    groups = {
        group: str(choice)
        for group, choice in choices.items()
        if choice is not None and "/" not in group and "@" not in group and group not in _NO_GROUPS
    }
    given = [one for one in parse_overrides(plan.space.overrides(best.params)) if _is_value(one, groups)]
    bare = plan.context.config_loader.load_configuration(
        plan.config.hydra.job.config_name,
        [
            *(f"{group}={choice}" for group, choice in groups.items()),
            *(f"++{override.key_or_group}={override.get_value_element_as_str()}" for override in given),
        ],
        run_mode=RunMode.RUN,
    )
    node = OmegaConf.create({"defaults": [*({f"override /{group}": name} for group, name in groups.items()), "_self_"]})
    for override in given:
        OmegaConf.update(node, override.key_or_group, override.value())
    before = flatten(_resolved(bare))
    for key, value in flatten(_resolved(trial)).items():
        if (
            (key not in before or before[key] != value)
            and not key.startswith(_DERIVED)
            and key.split(".")[0] not in _NOT_KEPT
        ):
            OmegaConf.update(node, key, value)
    result = f"{plan.objectives[0]}={best.values[0]:.6g}" if best.values else ""
    path = plan.folder / "experiment" / "best.yaml"
    replace_text(
        path,
        "# @package _global_\n"
        f"# Trial {best.number} of the study {plan.study_name}: {result}\n"
        + as_started("# python train.py --config-dir <this folder's parent> experiment=best\n")
        + OmegaConf.to_yaml(node),
    )
    return path


def _is_value(override: Override, groups: Mapping[str, str]) -> bool:
    """Whether an override sets a value of the run, instead of choosing a group's option."""
    key = override.key_or_group
    is_group = key in groups or key in _NO_GROUPS or "/" in key or override.package is not None
    return not (is_group or override.is_delete() or key.split(".")[0] in _NOT_KEPT)


def _resolved(config: DictConfig) -> dict[str, Any]:
    plain = config.copy()
    with open_dict(plain):
        del plain["hydra"]
    result: Any = OmegaConf.to_container(plain, resolve=True)
    return dict(result)


def training_command(plan: Plan) -> str:
    """The command that trains the best trial again."""
    return as_started(f"python train.py --config-dir {shlex.quote(relative(plan.folder))} experiment=best")
