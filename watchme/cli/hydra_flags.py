"""Hydra's own flags, and the values and pairs of them that Hydra would answer by a traceback or argparse's usage."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from watchme.config.suggestions import one_of
from watchme.core.errors import Problem

_SHORT = {
    **{"-h": "--help", "-c": "--cfg", "-p": "--package", "-r": "--run", "-m": "--multirun", "-i": "--info"},
    **{"-sc": "--shell-completion", "-cp": "--config-path", "-cn": "--config-name", "-cd": "--config-dir"},
}
# Flags that take a value, with what may stand there; nothing where it is free.
_VALUES: dict[str, tuple[str, ...]] = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "aliases", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    **dict.fromkeys(("--package", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"), ()),
}
_EXAMPLES = {"--cfg": "job", "--package": "train", "--info": "defaults"}
# Each is something to do, of which Hydra does one.
_DEEDS = {
    "--run": "runs",
    "--multirun": "sweeps",
    "--cfg": "shows the config",
    "--info": "shows how it was composed",
    "--shell-completion": "installs completion",
}
_ALONE = ("--help", "--hydra-help", "--version")  # end before the others are looked at
FLAGS = frozenset({*_SHORT, *_SHORT.values(), *_VALUES, *_DEEDS, *_ALONE, "--resolve"})
_SHELLS = ("bash", "fish", "zsh")


def long_name(flag: str) -> str:
    """`--cfg` of `-c`, `--cfg=job` or `--cfg`."""
    name = flag.partition("=")[0]
    return _SHORT.get(name, name)


def split_flags(argv: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags, each with its value after `=`, and all other arguments.

    --info takes the next argument only where that is one of its words, as `--info optimizer=adam` means another.
    """
    flags: list[str] = []
    others: list[str] = []
    given = list(argv)
    while given:
        argument = given.pop(0)
        if not argument.startswith("-"):
            others.append(argument)
            continue
        name = long_name(argument)
        if name in _VALUES and "=" not in argument:
            follows = bool(given) and not given[0].startswith("-") and (name != "--info" or "=" not in given[0])
            argument = f"{name}={given.pop(0) if follows else 'all' if name == '--info' else ''}"
        flags.append(argument)
    return flags, others


def problems_of_hydra_flags(
    flags: Sequence[str], arguments: Sequence[str], keys: Callable[[], Iterable[str]], conf: Path
) -> list[Problem]:
    """Hydra's flags that cannot be: values that they do not take, or two of which each is something to do.

    Args:
        flags: As `split_flags` returns them.
        arguments: The others.
        keys: Returns all keys of a config.
        conf: The project's conf/.
    """
    given = {long_name(flag): flag.partition("=")[2] for flag in flags}
    if given.keys() & set(_ALONE):
        return []
    problems = [
        Problem(flag.partition("=")[0], "takes no value", flag.partition("=")[2])
        for flag in flags
        if "=" in flag and long_name(flag) in FLAGS - set(_VALUES)
    ]
    deeds = [name for name in _DEEDS if name in given]
    if len(deeds) > 1:
        said = " and ".join(f"{name} {_DEEDS[name]}" for name in deeds)
        problems.append(Problem(" ".join(deeds), f"only one of them can be given: {said}"))
    problems += _problems_of_values(given)
    if "--cfg" not in given:
        if "--resolve" in given:
            problems.append(Problem("--resolve", "goes with --cfg: --cfg job --resolve"))
        if given.get("--package"):
            problems.append(Problem("--package", "goes with --cfg: --cfg job --package train"))
    if given.get("--package") and given.get("--cfg") == "job":
        problems += _problems_of_package(given["--package"], keys())
    if "--shell-completion" in given:
        problems += _problems_of_completion(arguments)
    return problems + _problems_of_paths(given, conf)


def _problems_of_values(given: Mapping[str, str]) -> list[Problem]:
    problems = []
    for name, allowed in _VALUES.items():
        value = given.get(name)
        if value is not None and ((allowed and value not in allowed) or not value):
            expected = f"expected one of {', '.join(allowed)}" if allowed else "needs a value"
            example = f": {name} {_EXAMPLES[name]}" if name in _EXAMPLES else ""
            problems.append(Problem(name, expected + example, value))
    return problems


def config_dirs(flags: Iterable[str]) -> list[Path]:
    """Folders of --config-dir, of flags as `split_flags` returns them."""
    return [Path(flag.partition("=")[2]) for flag in flags if long_name(flag) == "--config-dir"]


def _problems_of_package(package: str, keys: Iterable[str]) -> list[Problem]:
    sections = {"_global_"}
    for key in keys:
        parts = key.split(".")
        sections |= {".".join(parts[:count]) for count in range(1, len(parts))}
    top = sorted(section for section in sections if "." not in section)
    return [] if package in sections else [Problem("--package", one_of(package, top), repr(package))]


def _problems_of_completion(arguments: Sequence[str]) -> list[Problem]:
    deed, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    if deed in ("install", "uninstall", "query") and shell in _SHELLS:
        return []
    expected = "expected install=<shell> or uninstall=<shell>, of bash, fish and zsh: -sc install=bash"
    return [Problem("--shell-completion", expected, shlex.join(arguments))]


def _problems_of_paths(given: Mapping[str, str], conf: Path) -> list[Problem]:
    recipe = "a recipe of your own is a yaml in <folder>/experiment: --config-dir=<folder> experiment=<name>"
    problems = []
    folders = [Path(given[name]) for name in ("--config-dir", "--config-path") if given.get(name)]
    for name in ("--config-dir", "--config-path"):
        if given.get(name) and not Path(given[name]).is_dir():
            advice = "" if name == "--config-dir" else f"; {recipe}"
            problems.append(Problem(name, f"there is no such folder{advice}", repr(given[name])))
    config = given.get("--config-name", "config").removesuffix(".yaml")
    if config and not any((folder / f"{config}.yaml").is_file() for folder in [conf, *folders]):
        problems.append(Problem("--config-name", f"there is no {config}.yaml in {conf}; {recipe}", repr(config)))
    rerun = given.get("--experimental-rerun")
    if rerun and not (Path(rerun) / ".hydra" / "hydra.yaml").is_file():
        expected = "there is no .hydra/hydra.yaml in it; a run goes on by train.resume=<run folder>"
        problems.append(Problem("--experimental-rerun", expected, repr(rerun)))
    return problems
