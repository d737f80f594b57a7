"""Overrides of a command line (`key=value`, `+key=value`, `~key`), read by Hydra's own parser and written for it."""

import os
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from watchme.core.errors import ConfigError, Problem

# Hydra's flags that take a value, in the next argument or after `=`.
_VALUE_FLAGS = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
}
_INFO = {"all", "aliases", "config", "defaults", "defaults-tree", "plugins", "searchpath"}


def split_flags(argv: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags, with their values behind them, and all other arguments."""
    flags: list[str] = []
    others: list[str] = []
    previous = ""
    for argument in argv:
        takes = previous in _VALUE_FLAGS or (previous in ("--info", "-i") and argument in _INFO)
        (flags if takes or argument.startswith("-") else others).append(argument)
        previous = "" if takes else argument
    return flags, others


def with_home(argument: str) -> str:
    """Expand a value that begins with `~`, which neither shells nor Hydra's grammar do behind `key=`."""
    key, equals, value = argument.partition("=")
    if not equals or not value.startswith("~"):
        return argument
    return f"{key}={quoted(os.path.expanduser(value))}"  # noqa: PTH111, Path raises where there is no such home


def parse_overrides(arguments: Iterable[str]) -> list[Override]:
    """Parse overrides by Hydra's grammar.

    Raises:
        ConfigError: With every argument that cannot be parsed, and how to quote it.
    """
    parser = OverridesParser.create()
    parsed: list[Override] = []
    problems: list[Problem] = []
    for argument in arguments:
        try:
            parsed.append(parser.parse_override(argument))
        except HydraException as error:
            problems.append(_unreadable(argument, str(error)))
    if problems:
        raise ConfigError(problems)
    return parsed


def value_text(override: Override) -> str:
    """The value of an override as text, without quotes; of a sweep all its values."""
    if override.is_sweep_override():
        return str(override.get_value_string())
    value = override.value()
    return "null" if value is None else str(value)


def values_by_key(overrides: Sequence[Override]) -> dict[str, str]:
    """Key or group -> value as text; of a key that is given twice the last, as in Hydra. Deletions are left out."""
    return {each.key_or_group: value_text(each) for each in overrides if not each.is_delete()}


def quoted(text: str) -> str:
    """Quote a value for Hydra's grammar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unreadable(argument: str, error: str) -> Problem:
    key, equals, value = argument.partition("=")
    if not equals:
        return Problem(argument, "is not key=value; to set a key, write key=value, to choose an option group=option")
    first = error.splitlines()[0] if error else "its grammar does not allow it"
    shown = value if len(value) <= 60 else value[:57] + "..."
    quote = f"; as text it would be '{key}={quoted(value)}'" if len(value) <= 60 and "'" not in value else ""
    return Problem(key or argument[:60], f"cannot be parsed as a value: {first}{quote}", shown)
