"""Config groups and their options: what conf/ and the folders of --config-dir offer, and what an option sets."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from watchme.config.conf_dir import CONF
from watchme.io.files import read_yaml


def groups(folders: Iterable[Path] = (CONF,)) -> set[str]:
    """Names of the config groups: the folders within the config folders."""
    return {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}


def group_options(group: str, folders: Iterable[Path] = (CONF,)) -> list[str]:
    """Options of a group that a user can choose, which leaves out those whose name begins with an underscore."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("[!_]*.yaml")})


def option_value(group: str, option: str, key: str, folders: Sequence[Path] = (CONF,), depth: int = 4) -> Any:
    """A top-level key of an option, set by its yaml or by one that it is based on; None where neither sets it."""
    path = next((each for folder in folders if (each := folder / group / f"{option}.yaml").is_file()), None)
    content = read_yaml(path) if path is not None else {}
    if key in content:
        return content[key]
    bases = [each for each in content.get("defaults") or [] if isinstance(each, str) and each != "_self_"]
    for base in reversed(bases if depth else []):  # the later one wins, as in Hydra
        if (found := option_value(group, base, key, folders, depth - 1)) is not None:
            return found
    return None


def options_with(group: str, key: str, values: Iterable[Any], folders: Sequence[Path] = (CONF,)) -> list[str]:
    """Options of a group whose top-level `key` is one of `values`."""
    wanted = list(values)
    return [each for each in group_options(group, folders) if option_value(group, each, key, folders) in wanted]
