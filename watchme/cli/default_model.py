"""Which model a command means that names none: `mode=search`, or a dataset of another task than the default model's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from watchme.config.group_options import option_value, options_with
from watchme.config.type_conversion import literals_of, options_of
from watchme.config.validation import fields_of
from watchme.core.registry import engine_names, load_config_class
from watchme.io.files import read_yaml

# Modes that name their models by `detector` and `reid` -> option of `model`.
_MODELS = {"search": "search", "predict": "predict", "find": "predict", "embed": "predict"}
# The run of a checkpoint comes with its model.
_COME_WITH_A_MODEL = {"model", "checkpoint", "train.resume"}


def default_model(given: Mapping[str, str], folders: Sequence[Path]) -> str | None:
    """The option of `model` to add; None where the command line or the defaults have a fitting one.

    mode=search, predict, find and embed name their models by `detector` and `reid`. Otherwise the dataset's `task`
    decides: the model is the one with the shortest name of an engine that takes it, so that `dataset=market1501` alone
    trains a re-ID model.

    Args:
        given: The command line's overrides, see `values_by_key`.
        folders: Folders of config groups, the project's first.
    """
    dataset = given.get("dataset")
    if "model" not in given and (model := _MODELS.get(given.get("mode", ""))):
        return model
    if dataset is None or given.keys() & _COME_WITH_A_MODEL or _chosen_model(given, folders):
        return None
    task = option_value("dataset", dataset, "task", folders)
    engines = [name for name in engine_names() if task in _tasks(name)]
    if not engines or option_value("model", str(default_options(folders).get("model")), "engine", folders) in engines:
        return None
    fitting = options_with("model", "engine", engines, folders)
    return min(fitting, key=lambda option: (len(option), option), default=None)


def engine_of(given: Mapping[str, str], folders: Sequence[Path]) -> str | None:
    """The engine that a command line means, as far as it is known without composing the config."""
    model = given.get("model") or default_model(given, folders) or _chosen_model(given, folders)
    if model is None:
        if given.keys() & _COME_WITH_A_MODEL:
            return None
        model = default_options(folders).get("model")
    engine = option_value("model", str(model), "engine", folders)
    return engine if engine in engine_names() else None


def default_options(folders: Sequence[Path]) -> dict[str, Any]:
    """Group -> option of the defaults list in conf/config.yaml."""
    defaults: dict[str, Any] = {}
    for each in read_yaml(folders[0] / "config.yaml").get("defaults", []):
        defaults |= each if isinstance(each, dict) else {}
    return defaults


def _chosen_model(given: Mapping[str, str], folders: Sequence[Path]) -> str | None:
    """The model that an experiment or a sweeper option overrides; None where none does."""
    for group in ("experiment", "sweeper"):
        for option in given.get(group, "").strip("[]").split(","):
            entries = option_value(group, option.strip(), "defaults", folders) or []
            chosen = {str(key): each[key] for each in entries if isinstance(each, dict) for key in each}
            for key, model in chosen.items():
                if key.partition("@")[0] == "override /model":
                    return str(model)
    return None


def _tasks(engine: str) -> list[Any]:
    """Tasks of the datasets that an engine reads."""
    config_class: type = load_config_class(engine)
    dataset, _ = fields_of(config_class)["dataset"]
    hint, _ = fields_of(dataset)["task"]
    return [literal for option in options_of(hint) for literal in literals_of(option)]
