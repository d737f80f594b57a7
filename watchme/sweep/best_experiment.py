"""experiment/best.yaml: the winner as an experiment, `python train.py --config-dir <sweep dir> experiment=best`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.trial import FrozenTrial

from watchme.sweep.leaderboard import replace_text
from watchme.sweep.plan import Plan

# What belongs to a sweep or to one run, not to what is trained.
_NOT_KEPT = ("trial", "mode", "checkpoint", "tracker", "output_root")
_NO_GROUPS = ("experiment", "sweeper", "tracker")
_NOT_OURS = ("model.family",)


def write(plan: Plan, best: FrozenTrial) -> Path:
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
    values = _given(plan, best, groups)
    bare = plan.context.config_loader.load_configuration(
        plan.config.hydra.job.config_name,
        [*(f"{group}={choice}" for group, choice in groups.items()), *(f"++{key}={text}" for key, text in values)],
        run_mode=_run_mode(),
    )
    node: dict[str, Any] = {}
    parsed = OverridesParser.create().parse_overrides([f"++{key}={text}" for key, text in values])
    for override in parsed:
        _put(node, override.key_or_group.split("."), _plain(override))
    for key, value in _differences(_resolved(bare), _resolved(trial)):
        _put(node, key.split("."), value)
    named = f"{plan.objectives[0]}={best.values[0]:.6g}" if best.values else ""
    head = (
        "# @package _global_\n"
        f"# Trial {best.number} of the study {plan.study_name}: {named}\n"
        "# python train.py --config-dir <this folder's parent> experiment=best\n"
    )
    defaults: list[Any] = [{f"override /{group}": choice} for group, choice in groups.items()]
    text = head + OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"], **node}))
    path = plan.folder / "experiment" / "best.yaml"
    replace_text(path, text)
    return path


def _given(plan: Plan, best: FrozenTrial, groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """Keys and texts of the trial's overrides that are values, not choices of a group."""
    found = {}
    for override in plan.space.overrides(best.params):
        key, _, text = override.partition("=")
        name = key.lstrip("+~")
        if name in groups or name in _NO_GROUPS or name.split(".")[0] in (*_NOT_KEPT, "hydra") or key[0] == "~":
            continue
        if "/" not in name and "@" not in name:
            found[name] = text
    return list(found.items())


def _differences(bare: Mapping[str, Any], full: Mapping[str, Any], path: str = "") -> Sequence[tuple[str, Any]]:
    """Dotted keys and values of `full` that `bare` has not, or has otherwise."""
    found: list[tuple[str, Any]] = []
    for name, value in full.items():
        key = f"{path}.{name}" if path else str(name)
        if key in _NOT_OURS or (not path and name in _NOT_KEPT):
            continue
        if isinstance(value, Mapping) and isinstance(bare.get(name), Mapping):
            found += _differences(bare[name], value, key)
        elif name not in bare or bare[name] != value:
            found.append((key, value))
    return found


def _resolved(config: DictConfig) -> dict[str, Any]:
    plain = config.copy()
    with open_dict(plain):
        del plain["hydra"]
    result: Any = OmegaConf.to_container(plain, resolve=True)
    return dict(result)


def _put(node: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        node = node.setdefault(key, {})
    node[keys[-1]] = value


def _plain(override: Override) -> Any:
    value = override.value()
    return value.text if isinstance(value, QuotedString) else value


def _run_mode() -> Any:
    from hydra.types import RunMode

    return RunMode.RUN
