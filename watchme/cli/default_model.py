"""Which model a mode implies where the command line names none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from watchme.config.type_conversion import literals_of, options_of
from watchme.config.validation import fields_of
from watchme.core.registry import engine_names, load_config_class
from watchme.io.files import read_yaml

# An experiment, or the run that a checkpoint lies in, brings a model of its own.
_BRINGS_A_MODEL = {"model", "experiment", "checkpoint", "train.resume"}


def implied_model(given: Mapping[str, str], folders: Sequence[Path]) -> str | None:
    """The option of `model` to add; None where the command line or the defaults have a fitting one.

    mode=search names its two models by `detector` and `reid`. mode=check uses no model, but a model's engine reads
    the dataset: it is the shortest name of an engine that takes the dataset's `task`.

    Args:
        given: The command line's overrides.
        folders: Folders of config groups, the project's first.
    """
    mode, dataset = given.get("mode"), given.get("dataset")
    if mode == "search" and "model" not in given:
        return "search"
    if mode != "check" or dataset is None or given.keys() & _BRINGS_A_MODEL:
        return None
    task = _value(folders, "dataset", dataset, "task")
    engines = [name for name in engine_names() if task in _tasks(name)]
    defaults: dict[str, Any] = {}
    for each in read_yaml(folders[0] / "config.yaml").get("defaults", []):
        defaults |= each if isinstance(each, dict) else {}
    if not engines or _value(folders, "model", str(defaults.get("model")), "engine") in engines:
        return None
    options = {path.stem for folder in folders for path in (folder / "model").glob("[!_]*.yaml")}
    fitting = [option for option in options if _value(folders, "model", option, "engine") in engines]
    return min(fitting, key=lambda option: (len(option), option), default=None)


def _tasks(engine: str) -> list[Any]:
    """Tasks of the datasets that an engine reads."""
    config_class: type = load_config_class(engine)
    dataset, _ = fields_of(config_class)["dataset"]
    hint, _ = fields_of(dataset)["task"]
    return [literal for option in options_of(hint) for literal in literals_of(option)]


def _value(folders: Sequence[Path], group: str, option: str, key: str, depth: int = 4) -> Any:
    """A key of an option's yaml, or of the yaml that it is based on."""
    path = next((each for folder in folders if (each := folder / group / f"{option}.yaml").is_file()), None)
    content = read_yaml(path) if path is not None else {}
    if key in content:
        return content[key]
    bases = [each for each in content.get("defaults", []) if isinstance(each, str) and each != "_self_"]
    for base in reversed(bases if depth else []):  # the later one wins, as in Hydra
        if (found := _value(folders, group, base, key, depth - 1)) is not None:
            return found
    return None
