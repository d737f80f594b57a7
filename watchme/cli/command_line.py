"""What happens to a command line before Hydra composes the config: one function a step, in the order of `prepare`."""

import importlib.util
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import hydra
from hydra.core.override_parser.types import Override

from watchme import __version__
from watchme.cli import resolvers
from watchme.cli.default_model import default_model, default_options, engine_of
from watchme.cli.foreign_commands import (
    foreign_option,
    problems_of_flags,
    problems_of_foreign_keys,
    problems_of_values,
    problems_of_words,
)
from watchme.cli.from_run import with_run_config
from watchme.cli.hydra_flags import config_dirs, long_name, problems_of_hydra_flags, split_flags
from watchme.cli.key_help import key_help
from watchme.config.conf_dir import CONF
from watchme.config.group_options import group_options, groups, option_value
from watchme.config.overrides import parse_overrides, value_text, values_by_key, with_home
from watchme.config.suggestions import one_of
from watchme.config.validation import all_keys, known_keys
from watchme.core.errors import ConfigError, Problem
from watchme.core.registry import engine_names, load_config_class
from watchme.io.files import read_yaml
from watchme.sweep import plugin as sweeper
from watchme.sweep.database_password import take_password

# Options of hydra/launcher: the package that each needs, and our extra that installs it.
_LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "submitit"),
    "slurm": ("hydra_plugins.hydra_submitit_launcher", "submitit"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}
_DEBUG = {"debug=true": "debug=one_batch", "debug=false": "debug=none"}
# Flags that show something and run nothing.
_SHOW = {"--cfg", "--info", "--help", "--hydra-help"}


def prepare(argv: Sequence[str]) -> list[str]:
    """Return the arguments that Hydra gets for the arguments that the user typed.

    Raises:
        ConfigError: If an argument cannot be parsed, an option is named that its group does not have, a sweeper is
            chosen without -m, or a launcher is not installed.
        RunFolderError: If a run is to be resumed whose folder cannot be used.
    """
    share_cores()
    resolvers.register()
    sweeper.register()
    load_env_file(Path.cwd() / ".env")
    flags, arguments = split_flags(argv)
    names = {long_name(flag) for flag in flags}
    if "--version" in names:
        show_version()
    folders = [CONF, *config_dirs(flags)]
    refuse_other_tools_commands(flags, arguments, folders)
    if "--shell-completion" in names:
        return [*flags, *arguments]
    arguments = [_DEBUG.get(argument, with_home(argument)) for argument in arguments]
    overrides = parse_overrides(arguments)
    given = values_by_key(overrides)
    if "help" in given:
        show_key_help(given["help"])
    refuse_unusable_values(overrides, folders)
    refuse_unknown_options(given, folders)
    refuse_sweeps_that_cannot_start(overrides, names)
    if model := default_model(given, folders):
        arguments.append(f"model={model}")
    arguments = with_run_config(arguments, groups(folders))
    keys = _passed_keys(given, folders)
    return [*flags, *(_pass_through(argument, keys) for argument in arguments)]


def load_env_file(path: Path) -> None:
    """Set the environment variables of a .env file, but for those that are set already."""
    if path.is_file():
        from dotenv import load_dotenv

        load_dotenv(path)


def share_cores() -> None:
    """Let threads that wait for each other spin for microseconds only; must come before torch is imported.

    libgomp's threads spin for milliseconds by default, and for ever by OMP_WAIT_POLICY=ACTIVE, so that a busy core (a
    sweep's other slots, a loader, a colleague) stalls them all. Measured with OSNet-IBN at 64x32 on 2 cores, images/s
    on an idle machine and beside one busy process: default 160 and 45, PASSIVE 84 and 68, a count of 1000 137 and 58.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def show_version() -> None:
    """Print the version of this package and of Hydra, and end."""
    print(f"watchme-train {__version__} (Hydra {hydra.__version__})")
    sys.exit(0)


def show_key_help(key: str) -> None:
    """Print what a key means (`help=train.epochs`), and end.

    Raises:
        ConfigError: If there is no such key.
    """
    print(key_help(key))
    sys.exit(0)


def refuse_other_tools_commands(flags: Sequence[str], arguments: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse flags that nobody has and arguments without `=`.

    Raises:
        ConfigError: With what they are here.
    """
    problems = problems_of_flags(flags, all_keys)
    names = {long_name(flag) for flag in flags}
    # Of `--epochs 3` the 3 is a part of the flag.
    skip = problems or "--shell-completion" in names
    words = [] if skip else problems_of_words(arguments, groups(folders), all_keys, help_wanted="--help" in names)
    if words:  # `yolo train epochs=3`: what else is in it is told with it, not at the next try
        words += problems_of_foreign_keys(arguments, groups(folders), all_keys)
    problems += [*words, *problems_of_hydra_flags(flags, arguments, all_keys, CONF)]
    if problems:
        raise ConfigError(problems)


def refuse_unusable_values(overrides: Sequence[Override], folders: Sequence[Path]) -> None:
    """Refuse a choice that is given twice, and paths that cannot be.

    Raises:
        ConfigError: With all of them.
    """
    choices = groups(folders) | {"mode"}
    repeated: dict[str, list[str]] = {}
    for each in overrides:
        if (each.package is not None or each.key_or_group.startswith("/")) and not each.is_add():
            raise ConfigError([Problem(each.key_or_group, "options are chosen as group=option, without @ and /")])
        if each.key_or_group in choices and each.is_force_add():
            raise ConfigError([Problem(each.key_or_group, "options are chosen without ++: group=option")])
        if each.key_or_group in choices and not each.is_delete():
            repeated.setdefault(each.key_or_group, []).append(value_text(each))
    if problems := problems_of_values(values_by_key(overrides), repeated):
        raise ConfigError(problems)


def refuse_unknown_options(given: Mapping[str, str], folders: Sequence[Path]) -> None:
    """Refuse options that their group does not have, all at once.

    Raises:
        ConfigError: With the options that there are, and the nearest.
    """
    if "hydra.searchpath" in given:
        return  # options may be in folders that only Hydra knows
    problems = []
    chosen = default_options(folders)
    for group, value in given.items():
        if group not in groups(folders):
            continue
        if group not in chosen and group in groups():
            expected = "is no option of a run; set its keys where they are used: dataset.demo.<key>"
            problems.append(Problem(group, expected))
            continue
        options = group_options(group, folders)
        for option in value.strip("[]").split(","):
            name = option.strip().strip("'\"").removesuffix(".yaml")
            # Hydra reads functions, such as glob(*) of a sweep.
            if "(" in value or name in options or value == "[]":
                continue
            names = {str(option_value(group, each, "name", folders)): each for each in options}
            names = {found.rpartition(",")[2].rstrip("}"): each for found, each in names.items()}
            meant = foreign_option(group, option.strip().strip("'\""), options, names)
            expected = f"here it is {meant}" if meant else one_of(name, options)
            problems.append(Problem(group, expected, repr(name)))
    if problems:
        others = [f"{key}={value}" for key, value in given.items()]
        raise ConfigError(problems + problems_of_foreign_keys(others, groups(folders), all_keys))


def refuse_sweeps_that_cannot_start(overrides: Sequence[Override], flags: set[str]) -> None:
    """Refuse a sweeper or several values without -m, and a launcher that is not installed.

    Raises:
        ConfigError: With the flag, or the command that installs the launcher.
    """
    given = values_by_key(overrides)
    is_sweep = "--multirun" in flags or given.get("hydra.mode") == "MULTIRUN"
    if given.get("sweeper", "none") != "none" and not is_sweep and not flags & _SHOW:
        raise ConfigError([Problem("sweeper", "tunes only with -m: python train.py -m ...", given["sweeper"])])
    several = [each for each in overrides if each.is_sweep_override() and not is_sweep]
    if several and not given.get("hydra.mode"):
        text = "several values are a sweep: python train.py -m ...; a list is [a,b], a text with a comma '\"a,b\"'"
        raise ConfigError([Problem(each.key_or_group, text, value_text(each)) for each in several])
    package, extra = _LAUNCHERS.get(given.get("hydra/launcher", ""), ("watchme", ""))
    if importlib.util.find_spec(package.partition(".")[0]) is None or importlib.util.find_spec(package) is None:
        expected = f"is not installed: uv sync --extra {extra}"
        raise ConfigError([Problem("hydra/launcher", expected, given["hydra/launcher"])])


def _pass_through(argument: str, keys: Collection[str]) -> str:
    """Write an override so that Hydra passes it on: unknown keys go to validation, passwords to the environment.

    Hydra would stop at the first key that it does not know; `++` lets validation report all of them at once.
    """
    (override,) = parse_overrides([argument])
    key = override.key_or_group
    if key == "hydra.sweeper.storage":
        argument = take_password(argument)
    if argument.startswith("+") and not argument.startswith("++") and not key.startswith("hydra"):
        return argument if "/" in key or "@" in key or key in groups() else "+" + argument  # what is there is set
    if argument.startswith(("+", "~")):
        return argument
    if key.startswith("hydra.sweeper."):
        return "++" + argument  # the sweeper checks its own section, all at once
    if key.split(".")[0] == "hydra" or "/" in key or "@" in key or key in keys or key in groups():
        return argument
    return "++" + argument


def _passed_keys(given: Mapping[str, str], folders: Sequence[Path]) -> set[str]:
    """Keys that the composed config has for sure; others, such as those of another engine, are for validation."""
    engine = engine_of(given, folders)
    if engine is not None:
        keys = known_keys(load_config_class(engine))
    elif given.keys() & {"checkpoint", "train.resume"}:
        keys = set.intersection(*(known_keys(load_config_class(name)) for name in engine_names()))
    else:
        keys = set(all_keys())
    keys -= {key for key in keys if key.startswith("trial.")}  # null outside a sweep
    for group in ("optimizer", "scheduler"):
        if not any(key.startswith(f"{group}.") for key in given):
            continue  # reading all options takes 20 ms
        options = [set(read_yaml(CONF / group / f"{option}.yaml")) for option in group_options(group)]
        in_all = set.intersection(*options)
        keys -= {key for key in keys if key.startswith(f"{group}.") and key.partition(".")[2] not in in_all}
    return keys
