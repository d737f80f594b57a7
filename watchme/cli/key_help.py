"""`python train.py help=<key>`: what a key means, its values, and where its default comes from."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from watchme.config.conf_dir import CONF
from watchme.config.group_options import group_options, groups, options_with
from watchme.config.suggestions import meant_key, nearest
from watchme.config.type_conversion import describe, literals_of, options_of
from watchme.config.validation import all_keys, fields_of
from watchme.core.errors import ConfigError, Problem
from watchme.core.registry import engine_names, load_config_class
from watchme.io.files import read_yaml

_WIDTH = 80


def key_help(key: str) -> str:
    """Explain a key, a section or a group of every engine that has it.

    Raises:
        ConfigError: If there is no such key; names the nearest.
    """
    found = {name: hit for name in engine_names() if (hit := _find(load_config_class(name), key)) is not None}
    if not found and key.partition(".")[0] == "hydra":
        text = "is a key of Hydra: `--cfg hydra` shows its values; hydra.cc/docs/configure_hydra/intro explains"
        raise ConfigError([Problem("help", text, key)])
    if not found:
        known = sorted(all_keys())
        close = meant_key(key.rpartition(".")[2], key.rpartition(".")[0], known) or nearest(key, known)
        raise ConfigError(
            [Problem("help", "there is no such key" + (f"; did you mean {close}?" if close else ""), key)]
        )
    lines = [key]
    texts: dict[str, list[str]] = {}
    for engine, (hint, field) in found.items():
        texts.setdefault("\n".join(_describe(hint, field)), []).append(engine)
    for text, engines in texts.items():
        lines += [f"  {', '.join(engines)}:", text] if len(found) > 1 else [text]
    if key in groups():
        lines += ["  options:", *_wrapped(", ".join(group_options(key)))]
    defaults = list(_defaults(key, list(found)))
    if defaults:
        lines += ["  set by:", *(f"    {file}: {value}" for file, value in defaults)]
    lines.append(f"  Set it with {key}=<value>; `--cfg job` shows the value that a command gives it.")
    return "\n".join(lines)


def _find(cls: Any, key: str) -> "tuple[Any, dataclasses.Field[Any]] | None":
    """Type hint and field of a dotted key; None where a config class has none."""
    first, _, rest = key.partition(".")
    fields = fields_of(cls)
    if first not in fields:
        return None
    hint, field = fields[first]
    if not rest:
        return hint, field
    return next((hit for part in _sections(hint) if (hit := _find(part, rest)) is not None), None)


def _sections(hint: Any) -> list[Any]:
    return [part for part in options_of(hint) if dataclasses.is_dataclass(part)]


def _describe(hint: Any, field: "dataclasses.Field[Any]") -> Iterator[str]:
    if meaning := field.metadata.get("help"):
        yield from _wrapped(str(meaning))
    for part in _sections(hint):
        yield from _wrapped(str(part.__doc__ or "").splitlines()[0])
        yield from _wrapped("keys: " + ", ".join(fields_of(part)))
    literals = [str(choice) for option in options_of(hint) for choice in literals_of(option)]
    null = ["null"] if literals and type(None) in options_of(hint) else []
    values = "one of " + ", ".join(literals + null) if literals else describe(options_of(hint), field.metadata)
    if values:
        yield from _wrapped(f"values: {values}")


def _defaults(key: str, engines: list[str]) -> Iterator[tuple[str, Any]]:
    """File of conf/ and value, of every option that sets a key itself."""
    group, _, rest = key.partition(".")
    top = read_yaml(CONF / "config.yaml")
    if (value := _lookup(top, key)) is not None:
        yield "conf/config.yaml", value
    if not rest or group not in groups():
        return
    own = {option for mark in ("engine", "task") for option in options_with(group, mark, engines)}
    for option in sorted(own or group_options(group)):
        if (value := _lookup(read_yaml(CONF / group / f"{option}.yaml"), rest)) is not None:
            yield f"conf/{group}/{option}.yaml", value


def _lookup(node: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return "null" if node is None else None if isinstance(node, Mapping) else node


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
