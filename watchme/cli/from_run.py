"""Config of an earlier run: `mode=evaluate checkpoint=<run>/weights/best.pt` and `train.resume=<run>` load it.

The run's resolved config becomes an experiment (precedence: command line > experiment > ...), so that the model,
the dataset and all settings are those of the run, environment variables of that day included, and the command
line still overrides each of them.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from watchme.config.group_options import groups, options_with
from watchme.config.overrides import parse_overrides, quoted, values_by_key
from watchme.core.errors import ConfigError, Problem, RunFolderError
from watchme.io.files import read_yaml
from watchme.io.run_lookup import CONFIG, MANIFEST, folder_of, manifest_of

EXPERIMENT = "from_run"
# What belongs to one run and not to the next. A resumed run keeps its mode and its tracker.
_OWN = {"mode", "checkpoint", "trial", "tracker", "source"}
# Groups that are no section of the config.
_NO_SECTIONS = {"experiment", "sweeper", "debug", "tracker", "hydra"}
# Options of `train` that are for one command.
_ONCE = {"resume", "limit_batches", "profile", "detect_anomaly"}


def with_run_config(arguments: Sequence[str], group_names: Collection[str]) -> list[str]:
    """Add the config of the run that `checkpoint` or `train.resume` is in, if they name one.

    Raises:
        ConfigError: If a resumed run is given another folder than its own.
        RunFolderError: If the run's config cannot be read, or the folder to resume is no run's.
    """
    given = values_by_key(parse_overrides(arguments))
    resumes = given.get("train.resume", "null") != "null"
    folder = _run_folder(given)
    if folder is None:
        if given.get("train.resume") == "auto":
            return _with_resume(arguments, "null")  # nothing is there yet: start
        if resumes and "hydra.run.dir" not in given:
            _refuse_no_run(Path(given["train.resume"]).expanduser())
        if not {"model", "dataset"} <= given.keys():
            _refuse_weights_of_damaged_run(given.get("checkpoint", ""))
        return list(arguments)  # a plain weights file, which validation looks for
    finished = manifest_of(folder).get("status") == "finished"
    if resumes and not finished and not any((folder / "weights").glob("*.pt")):
        # Stopped before its first checkpoint, or of a mode that makes none: start again in its folder.
        arguments = _with_resume(arguments, "null")
    elif given.get("train.resume") == "auto":
        arguments = _with_resume(arguments, quoted(str(folder)))
    overrides = parse_overrides(arguments)
    _store(folder, given.keys() & set(group_names), resumes=resumes)
    experiment = [each for each in given.get("experiment", "").strip("[]").split(",") if each.strip()]
    added = [argument for argument, each in zip(arguments, overrides, strict=True) if each.key_or_group != "experiment"]
    added.append(f"experiment=[{','.join([EXPERIMENT, *experiment])}]")
    if resumes:
        if "hydra.run.dir" in given and Path(given["hydra.run.dir"]).resolve() != folder:
            expected = f"a resumed run goes on in its own folder, {folder}; leave hydra.run.dir out"
            raise ConfigError([Problem("hydra.run.dir", expected, repr(given["hydra.run.dir"]))])
        added.append(f"hydra.run.dir={quoted(str(folder))}")
    return added


def _run_folder(given: Mapping[str, str]) -> Path | None:
    """The folder of the run that `train.resume` or else `checkpoint` is in; None for a file in no run's folder.

    Raises:
        ConfigError: If train.resume=auto is given without the folder to look in.
    """
    path = given.get("train.resume", "null")
    if path == "auto":
        if "hydra.run.dir" not in given:
            expected = "auto starts a run or goes on with it, in a folder of your choice: add hydra.run.dir=<folder>"
            raise ConfigError([Problem("train.resume", expected, "'auto'")])
        path = given["hydra.run.dir"]
    elif path == "null":
        path = given.get("checkpoint", "null")
    folder = folder_of(Path(path).expanduser()) if path not in ("null", "") else None
    return None if folder is None else folder.resolve()


def _with_resume(arguments: Sequence[str], value: str) -> list[str]:
    """The overrides with another value of train.resume."""
    keys = [each.key_or_group for each in parse_overrides(arguments)]
    kept = [argument for argument, key in zip(arguments, keys, strict=True) if key != "train.resume"]
    return [*kept, f"train.resume={value}"]


def _refuse_no_run(path: Path) -> None:
    """Raise a RunFolderError for a path that is there, but in no run's folder; else validation names it."""
    folder = path if path.is_dir() else path.parent.parent
    if path.exists():
        raise RunFolderError(
            f"train.resume={path}: {folder} is no run that could go on: it has no {_lost(folder)}.\n"
            "    A new run starts from its weights by model.weights=<file>."
        )


def _refuse_weights_of_damaged_run(checkpoint: str) -> None:
    """Raise a RunFolderError for weights in a run's folder that has lost the record of their model and dataset."""
    folder = Path(checkpoint).expanduser().parent.parent
    if Path(checkpoint).expanduser().is_file() and any(os.path.lexists(folder / name) for name in (MANIFEST, CONFIG)):
        raise RunFolderError(
            f"checkpoint={checkpoint}: {folder} has no {_lost(folder)}, which says what the weights need.\n"
            "    Name it: model=<option> dataset=<option> dataset.root=<folder>."
        )


def _lost(folder: Path) -> str:
    """The files of a run that a folder lacks, in words."""
    return " and no ".join(name for name in (MANIFEST, CONFIG) if not (folder / name).is_file())


def _store(folder: Path, chosen: set[str], *, resumes: bool) -> None:
    """Put the run's config into Hydra's store as an experiment, less the groups that the command line chooses."""
    saved = read_yaml(folder / CONFIG)
    if not isinstance(saved.get("model"), dict):
        if not os.access(folder / CONFIG, os.R_OK):
            raise RunFolderError(f"{folder / CONFIG} cannot be read: Permission denied.")
        raise RunFolderError(
            f"{folder / CONFIG} is damaged or holds no config of a run; without it this run cannot be loaded.\n"
            "    Restore the file, or name the model, the dataset and the weights: model=... model.weights=<file>"
        )
    without = chosen | ({"trial"} if resumes else _OWN)
    node = {key: value for key, value in saved.items() if key not in without}
    if isinstance(node.get("train"), dict):
        once = {"resume"} if resumes else _ONCE
        node["train"] = {key: value for key, value in node["train"].items() if key not in once}
    defaults: list[Any] = [
        {f"override /{group}": choice}
        for group, choice in _choices(folder, saved).items()
        if group not in _NO_SECTIONS | chosen and "/" not in group and "@" not in group
    ]
    ConfigStore.instance().store(
        group="experiment", name=EXPERIMENT, node={"defaults": [*defaults, "_self_"], **node}, package="_global_"
    )


def _choices(folder: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Group -> option that a run was composed with: from its manifest, its .hydra folder, or fitted to its config."""
    recorded = manifest_of(folder).get("choices")
    hydra = read_yaml(folder / ".hydra" / "hydra.yaml").get("hydra", {})
    choices = recorded or (hydra.get("runtime") or {}).get("choices")
    if isinstance(choices, dict):
        return choices
    found = {}
    for group in sorted(groups() - _NO_SECTIONS):
        section = saved.get(group)
        for key in ("engine", "task", "name"):
            if isinstance(section, dict) and key in section and (fits := options_with(group, key, [section[key]])):
                found[group] = fits[0]
                break
    return found
