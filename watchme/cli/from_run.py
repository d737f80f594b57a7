"""A run's own config, taken up again: `mode=evaluate checkpoint=<run>/weights/best.pt`, `train.resume=<run>`.

The run's resolved config becomes an experiment (precedence: command line > experiment > ...), so that the model,
the dataset and all settings are those of the run, environment variables of that day included, and the command
line still overrides each of them.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from watchme.core.errors import ConfigError, Problem
from watchme.run.run_dir import CONFIG, folder_of

NAME = "recalled"
# What belongs to one run and is not taken up by another. A resumed run keeps its tracker.
_OWN = ("mode", "checkpoint", "trial")
_NO_SECTIONS = ("experiment", "sweeper", "tracker", "hydra")


def recall(argv: Sequence[str], groups: Collection[str]) -> list[str]:
    """Return `argv` with the config of the run that `checkpoint` or `train.resume` lies in behind it.

    Args:
        argv: The command line.
        groups: Names of the config groups.

    Raises:
        ConfigError: If a resumed run is told to go into another folder than its own.
    """
    arguments = list(argv)
    given = dict(match for argument in argv if (match := _key_value(argument)) is not None)
    resumed = given.get("train.resume")
    path = resumed or given.get("checkpoint")
    if not path or path == "null":
        return arguments
    folder = folder_of(Path(path).expanduser())
    if folder is None:
        return arguments  # a plain weights file; validation looks at it
    folder = folder.resolve()
    chosen = {key for key in given if key in groups}
    _store(folder, chosen, keep_tracker=bool(resumed))
    if "experiment" in given:
        arguments = [argument for argument in arguments if _key_value(argument) != ("experiment", given["experiment"])]
        arguments.append(f"experiment=[{NAME},{given['experiment'].strip('[]')}]")
    else:
        arguments.append(f"experiment={NAME}")
    if resumed:
        if "hydra.run.dir" in given and Path(given["hydra.run.dir"]).resolve() != folder:
            raise ConfigError(
                [
                    Problem(
                        "hydra.run.dir",
                        f"a resumed run goes on in its own folder, {folder}; leave hydra.run.dir out",
                        repr(given["hydra.run.dir"]),
                    )
                ]
            )
        arguments.append(f"hydra.run.dir={_quote(str(folder))}")
    return arguments


def _store(folder: Path, chosen: set[str], *, keep_tracker: bool) -> None:
    """Put the run's config into Hydra's store as the experiment `recalled`, less the groups chosen anew."""
    saved: Any = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
    hydra: Any = OmegaConf.load(folder / ".hydra" / "hydra.yaml")
    choices = OmegaConf.select(hydra, "hydra.runtime.choices") or {}
    without = {*_OWN, *chosen} - ({"tracker"} if keep_tracker else set())
    if not keep_tracker:
        without.add("tracker")
    node = {key: value for key, value in saved.items() if key not in without}
    if isinstance(node.get("train"), dict):
        node["train"] = {key: value for key, value in node["train"].items() if key != "resume"}
    defaults: list[Any] = [
        {f"override /{group}": choice}
        for group, choice in choices.items()
        if group not in _NO_SECTIONS and group not in chosen and "/" not in group and "@" not in group
    ]
    ConfigStore.instance().store(
        group="experiment", name=NAME, node={"defaults": [*defaults, "_self_"], **node}, package="_global_"
    )


def _key_value(argument: str) -> tuple[str, str] | None:
    match = re.match(r"^\+{0,2}([A-Za-z_][\w./-]*)=(.*)$", argument, re.S)
    if match is None:
        return None
    value = match[2]
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return match[1], value


def _quote(text: str) -> str:
    """Quote a value for Hydra's override grammar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
