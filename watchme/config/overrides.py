"""Overrides of a command line (`key=value`, `+key=value`, `~key`), read by Hydra's own parser and written for it."""

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import ListConfig, OmegaConf

from watchme.core.errors import ConfigError, Problem

# Words of the generated parser.
_PARSER = ("no viable alternative", "mismatched input", "extraneous input", "missing ", "token recognition")


def with_home(argument: str) -> str:
    """Expand a value that begins with `~`, which neither shells nor Hydra's grammar do behind `key=`."""
    key, equals, value = argument.partition("=")
    if not equals or not value.startswith("~"):
        return argument
    return f"{key}={quoted(os.path.expanduser(value))}"  # noqa: PTH111, Path raises where there is no such home


def parse_overrides(arguments: Iterable[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse overrides by Hydra's grammar; Hydra's `loader` lists the options of a group for the values of a `glob(*)`.

    Raises:
        ConfigError: With every argument that cannot be parsed, and how to quote it.
    """
    parse = _parse if loader is None else OverridesParser.create(loader).parse_override
    parsed: list[Override] = []
    problems: list[Problem] = []
    for argument in arguments:
        try:
            parsed.append(parse(argument))
            parsed[-1].config_loader = loader
        except HydraException as error:
            problems.append(_unreadable(argument, str(error)))
    if problems:
        raise ConfigError(problems)
    return parsed


@functools.cache
def _parse(argument: str) -> Override:
    return OverridesParser.create().parse_override(argument)


def value_text(override: Override) -> str:
    """The value of an override as text, without quotes; of a sweep all its values."""
    if override.is_sweep_override():
        return str(override.get_value_string())
    value = override.value()
    return "null" if value is None else str(value)


def values_by_key(overrides: Sequence[Override]) -> dict[str, str]:
    """Key or group -> value as text; of a key that is given twice the last, as in Hydra. Deletions are left out."""
    return {each.key_or_group: value_text(each) for each in overrides if not each.is_delete()}


def unresolved(overrides: "ListConfig | list[str]") -> list[str]:
    """A list of overrides as Hydra keeps it, with `${...}` as it was typed: the list would resolve it."""
    texts: Any = OmegaConf.to_container(overrides, resolve=False)
    return [str(text) for text in texts]


def quoted(text: str) -> str:
    """Quote a value for Hydra's grammar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def override_text(value: Any) -> str:
    """The text after `key=` that Hydra parses to this value: strings are quoted where they must be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(override_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{override_text(key)}:{override_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and not _is_plain(value):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value)


def shown_value(value: Any) -> str:
    """A value as it is shown: strings as they are; null, true, false and lists as they are typed."""
    return value if isinstance(value, str) else override_text(value)


def _is_plain(text: str) -> bool:
    """Whether Hydra parses this text to the same string, as a value and as an element of a list."""
    try:
        override = OverridesParser.create().parse_override(f"key=[{text}]")
    except HydraException:
        return False
    return override.value() == [text] and text == text.strip()


def _unreadable(argument: str, error: str) -> Problem:
    key, equals, value = argument.partition("=")
    if not equals:
        return Problem(argument, "is not key=value; to set a key, write key=value, to choose an option group=option")
    first = error.splitlines()[0] if error else "its grammar does not allow it"
    if any(words in first for words in _PARSER):
        first = "brackets, braces and quotes come in pairs, and a comma, a colon or an = of a text stands in quotes"
    shown = value if len(value) <= 60 else value[:57] + "..."
    quote = f"; as text it would be '{key}={quoted(value)}'" if len(value) <= 60 and "'" not in value else ""
    return Problem(key or argument[:60], f"cannot be parsed as a value: {first}{quote}", shown)
