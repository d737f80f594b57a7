"""What happens to a command line before Hydra composes it, and how a run's errors reach the user.

- `.env` is read, so that `oc.env` defaults in conf/ see the backend's variables;
- a checkpoint or resume that lies in a run folder brings that run's config along (from_run.py);
- unknown keys are passed on to validation.py, which reports all of them at once;
- an option that a group does not have is answered here, with the nearest one.
"""

import functools
import importlib.util
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from dotenv import load_dotenv
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from watchme.cli.default_model import implied_model
from watchme.cli.from_run import recall
from watchme.cli.help import help_text
from watchme.config.conf_dir import CONF
from watchme.config.type_conversion import nearest
from watchme.config.validation import known_keys
from watchme.core.errors import ConfigError, Problem, WatchmeError
from watchme.core.registry import engine_names, load_config_class
from watchme.sweep import plugin as sweeper
from watchme.sweep.database_password import take_password

_OVERRIDE = re.compile(r"^(?P<sign>\+{0,2})(?P<key>[A-Za-z_][\w./-]*)=(?P<value>.*)$", re.S)
# Options of hydra/launcher: the package that each needs, and the extra that brings it.
_LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "submitit"),
    "slurm": ("hydra_plugins.hydra_submitit_launcher", "submitit"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}
T = TypeVar("T")


def prepare(argv: Sequence[str]) -> list[str]:
    """Return the arguments that Hydra is to see for the arguments that the user typed.

    Raises:
        ConfigError: If an option is named that its group does not have.
        RunFolderError: If a run is to be resumed whose folder cannot be.
    """
    share_cores()
    register_resolvers()
    sweeper.register()
    load_dotenv(Path.cwd() / ".env")
    folders = [CONF, *_config_dirs(argv)]
    _check_options(argv, folders)
    _check_sweep(argv)
    arguments = [_pass_unknown_key(argument) for argument in recall(_with_model(argv), _groups(folders))]
    return [take_password(one) if "hydra.sweeper.storage=" in one else one for one in arguments]


def share_cores() -> None:
    """Let threads that wait for each other spin for microseconds only; must come before torch is imported.

    libgomp's threads spin for milliseconds by default, and for ever by OMP_WAIT_POLICY=ACTIVE, so that a busy core (a
    sweep's other slots, a loader, a colleague) stalls them all. Measured with OSNet-IBN at 64x32 on 2 cores, images/s
    on an idle machine and beside one busy process: default 160 and 45, PASSIVE 84 and 68, a count of 1000 137 and 58.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def register_resolvers() -> None:
    """Register what conf/ uses.

    `${token:}` keeps run folders of one second apart, `${help_text:}` is --help, and `${if_set:value,yes,no}` is `no`
    where the value is null.
    """
    OmegaConf.register_resolver("if_set", lambda value, yes, no: no if value is None else yes, replace=True)
    OmegaConf.register_resolver("token", lambda: secrets.token_hex(2), use_cache=True, replace=True)
    OmegaConf.register_resolver("help_text", lambda: help_text(CONF), replace=True)


def reports_errors(main: Callable[[DictConfig], T]) -> Callable[[DictConfig], T]:
    """Decorate the function under `hydra.main`: a single run answers an error by its text and exit status.

    In a sweep the error goes on to the sweeper, which marks the trial.
    """

    @functools.wraps(main)
    def wrapped(config: DictConfig) -> T:
        if HydraConfig.get().mode != RunMode.RUN:
            return main(config)
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            return main(config)
        except WatchmeError as error:
            if isinstance(error, ConfigError):
                _discard_unused(folder)
            fail(error)
        except Exception as error:
            if os.environ.get("HYDRA_FULL_ERROR") or not (folder / "traceback.txt").is_file():
                raise
            # A library's error is no answer: name it, and say where the whole of it lies.
            print(
                f"Unexpected {type(error).__name__}: {error}\n"
                f"    The traceback is in {folder / 'traceback.txt'} (HYDRA_FULL_ERROR=1 prints it).",
                file=sys.stderr,
            )
            sys.exit(1)

    return wrapped


def fail(error: WatchmeError) -> NoReturn:
    """Print an error's text and end with its exit status."""
    sys.stdout.flush()
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)


def _discard_unused(folder: Path) -> None:
    """Remove the folder that Hydra made for a run that validation refused, if nothing else is in it."""
    if all(path.name == ".hydra" or path.suffix == ".log" for path in folder.iterdir()):
        shutil.rmtree(folder)


def _config_dirs(argv: Sequence[str]) -> list[Path]:
    found = []
    for index, argument in enumerate(argv):
        name, _, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            found.append(Path(value or (argv[index + 1] if index + 1 < len(argv) else ".")))
    return found


def _groups(folders: Sequence[Path]) -> set[str]:
    return {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}


def _check_options(argv: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse options that a group does not have, all at once."""
    if any(argument.lstrip("+").startswith("hydra.searchpath") for argument in argv):
        return  # options may come from places that only Hydra knows
    problems = []
    for argument in argv:
        match = _OVERRIDE.match(argument)
        if match is None or match["key"] not in _groups(folders):
            continue
        group = match["key"]
        options = sorted({path.stem for folder in folders for path in (folder / group).glob("[!_]*.yaml")})
        for option in match["value"].strip("[]").split(","):
            if re.fullmatch(r"\s*[\w./-]+\s*", option) and option.strip().removesuffix(".yaml") not in options:
                close = nearest(option, options)
                hint = f"; did you mean {close}?" if close else ""
                expected = f"expected one of {', '.join(options)}{hint}"
                problems.append(Problem(group, expected, repr(option.strip())))
    if problems:
        raise ConfigError(problems)


def _check_sweep(argv: Sequence[str]) -> None:
    """Refuse a sweeper without -m, which would train once and tune nothing, and a launcher that is not installed."""
    given = {match["key"]: match["value"] for argument in argv if (match := _OVERRIDE.match(argument))}
    flags = {argument.split("=")[0] for argument in argv if argument.startswith("-")}
    shows = flags & {"--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help"}
    sweeps = flags & {"-m", "--multirun"} or given.get("hydra.mode") == "MULTIRUN"
    if given.get("sweeper", "none") != "none" and not sweeps and not shows:
        raise ConfigError([Problem("sweeper", "tunes only with -m: python train.py -m ...", given["sweeper"])])
    package, extra = _LAUNCHERS.get(given.get("hydra/launcher", ""), ("watchme", ""))
    if importlib.util.find_spec(package.partition(".")[0]) is None or importlib.util.find_spec(package) is None:
        expected = f"is not installed: pip install 'watchme[{extra}]'"
        raise ConfigError([Problem("hydra/launcher", expected, given["hydra/launcher"])])


def _with_model(argv: Sequence[str]) -> list[str]:
    """Add the model that a mode implies."""
    given = {match["key"]: match["value"] for argument in argv if (match := _OVERRIDE.match(argument))}
    model = implied_model(given, [CONF, *_config_dirs(argv)])
    return list(argv) if model is None else [*argv, f"model={model}"]


def _pass_unknown_key(argument: str) -> str:
    """Let an override of a key that no engine has through Hydra (`++`), which would stop at the first."""
    match = _OVERRIDE.match(argument)
    if match is not None and not match["sign"] and match["key"].startswith("hydra.sweeper."):
        return "++" + argument  # the sweeper checks its own section, all at once
    if match is None or match["sign"] or match["key"].split(".")[0] == "hydra" or "/" in match["key"]:
        return argument
    if match["key"] in _known() or match["key"] in _groups([CONF]):
        return argument
    return "++" + argument


@functools.cache
def _known() -> frozenset[str]:
    return frozenset().union(*(known_keys(load_config_class(name)) for name in engine_names()))
