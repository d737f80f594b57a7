"""DictConfig -> typed config, or every problem in one message.

Walks the dataclasses of the engine's config (`engines/<name>/config.py`) beside the composed config. Hydra's
own struct check lets `+model.typo=1` pass and stops at the first unknown key, so nothing is left to it.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf

from watchme.config.group_options import options_with
from watchme.config.mode_rules import idle_options
from watchme.config.resolution import environment_source, resolve
from watchme.config.schema import RunConfig
from watchme.config.suggestions import (
    key_of_another_engine,
    meant_key,
    meant_value,
    mode_of_another_tool,
    one_of,
    unknown_key,
)
from watchme.config.type_conversion import BOUNDS, convert, describe, literals_of, options_of, stand_in
from watchme.core.errors import CheckpointError, ConfigError, Problem
from watchme.core.formatting import flatten
from watchme.core.registry import check_config, engine_names, load_config_class, modes
from watchme.io.run_lookup import config_of

T = TypeVar("T")
# A section's field of this name says which engines can use the section; see `_Walk.family_problem`.
_FAMILY_FIELDS = ("task", "engine")
_NOTHING = object()


def validate(config: DictConfig) -> RunConfig:
    """Turn a composed config into its engine's typed config.

    Returns:
        An instance of the `Config` class of `watchme/engines/<model.engine>/config.py`.

    Raises:
        ConfigError: With every problem found: unknown keys at any depth, wrong types, values out of range,
            groups of another engine, and what the engine's config_rules.py finds (folders, checkpoints).
    """
    problems: list[Problem] = []
    plain, unresolved = resolve(config, problems)
    engine = plain.get("model", {}).get("engine") if isinstance(plain.get("model"), Mapping) else None
    if engine not in engine_names():
        problems.append(Problem("model.engine", one_of(engine, engine_names()), repr(engine)))
        raise ConfigError(problems)
    walk = _Walk(config, engine, problems, unresolved)
    typed: RunConfig | None = walk.dataclass(load_config_class(engine), plain, "")
    if typed is not None and typed.mode not in modes(engine):
        problems.append(Problem("mode", f"the {engine} engine offers {', '.join(modes(engine))}", repr(typed.mode)))
    elif typed is not None:
        # With stand-ins where a value was wrong, so that a missing folder is reported together with a typo.
        problems += idle_options(typed)
        known = {problem.key for problem in problems}
        problems += [walk.with_source(found) for found in check_config(engine, typed) if found.key not in known]
    if problems or typed is None:
        raise ConfigError(problems)
    return typed


def validate_section(section: type[T], values: Mapping[str, Any], path: str) -> T:
    """Turn the values of a part of the config into its dataclass; `path` is its dotted key, such as `hydra.sweeper`.

    Raises:
        ConfigError: With every problem found.
    """
    problems: list[Problem] = []
    node = OmegaConf.create()
    OmegaConf.update(node, path, dict(values))
    typed: T | None = _Walk(node, "", problems, set()).dataclass(section, dict(values), path)
    if problems or typed is None:
        raise ConfigError(problems)
    return typed


@functools.cache
def fields_of(cls: type) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """Name -> (resolved type hint, field) of a config dataclass."""
    hints = typing.get_type_hints(cls)
    return {field.name: (hints[field.name], field) for field in dataclasses.fields(cls)}


def known_keys(cls: type, prefix: str = "") -> set[str]:
    """Every dotted key of a config dataclass, its sections included."""
    keys: set[str] = set()
    for name, (hint, _) in fields_of(cls).items():
        keys.add(prefix + name)
        for option in options_of(hint):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                keys |= known_keys(option, f"{prefix}{name}.")
    return keys


@functools.cache
def all_keys() -> frozenset[str]:
    """Every dotted key that an engine has; imports the schemas of all engines."""
    return frozenset().union(*(known_keys(load_config_class(name)) for name in engine_names()))


class _Walk:
    """One walk over the dataclasses; collects problems."""

    def __init__(self, config: DictConfig, engine: str, problems: list[Problem], unresolved: set[str]) -> None:
        self.config = config
        self.engine = engine
        self.problems = problems
        self.unresolved = unresolved
        self.mismatched = False

    def report(self, key: str, expected: str, found: Any = _NOTHING) -> None:
        text = "" if found is _NOTHING else _show(found)
        self.problems.append(self.with_source(Problem(key, expected, text)))

    def with_source(self, problem: Problem) -> Problem:
        if problem.source:
            return problem
        return dataclasses.replace(problem, source=environment_source(self.config, problem.key) or "")

    def dataclass(self, cls: Any, node: Any, path: str) -> Any:
        """Build `cls` from a mapping, with stand-ins for wrong values, which are reported.

        None where it cannot be built: a required value is missing, or a section belongs to another engine.
        """
        if not isinstance(node, Mapping):
            self.report(path, f"expected a section with the keys {', '.join(fields_of(cls))}", node)
            return None
        fields = fields_of(cls)
        if path and self.family_problem(fields, node, path):
            return None
        complete = True
        arguments: dict[str, Any] = {}
        # Dataset first: a dataset of the wrong kind explains every other mismatch.
        for name in sorted(fields, key=lambda name: name != "dataset"):
            hint, field = fields[name]
            where = f"{path}.{name}" if path else name
            if name in node:
                arguments[name] = self.value(hint, node[name], where, field.metadata)
                complete = complete and (arguments[name] is not None or type(None) in options_of(hint) or hint is Any)
            elif field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING:
                continue
            elif where in self.unresolved:
                complete = False  # reported already
            else:
                complete = False
                self.report(where, f"is missing; {field.metadata.get('help') or 'a value is required'}")
        for name in node:
            if name not in fields:
                self.report_unknown(str(name), path, list(fields), node[name])
        return cls(**arguments) if complete and not self.mismatched else None

    def report_unknown(self, name: str, path: str, names: list[str], value: Any) -> None:
        """Report a key that this engine's config does not have; of another tool's section each key that is known."""
        where = f"{path}.{name}" if path else name
        leaves = flatten(value, f"{where}.") if isinstance(value, Mapping) and value else {}
        own = known_keys(load_config_class(self.engine)) if self.engine else set()
        meant = {key: found for key in leaves if (found := meant_key(key.rpartition(".")[2], where, own))}
        for key, found in meant.items():
            self.report(key, f"unknown key; it is {found} here", leaves[key])
        if len(meant) < len(leaves) or not leaves:
            self.report(where, self.unknown(name, path, names), value)

    def unknown(self, name: str, path: str, names: list[str]) -> str:
        """What to say of a key that this engine's config does not have."""
        if not self.engine:  # a section of its own, see `validate_section`
            return unknown_key(name, path, names)
        key, own = f"{path}.{name}" if path else name, known_keys(load_config_class(self.engine))
        others = [each for each in engine_names() if key in known_keys(load_config_class(each))]
        if others:
            return key_of_another_engine(key, others, self.engine, own)
        return unknown_key(name, path, names, own)

    def family_problem(self, fields: Mapping[str, Any], node: Mapping[str, Any], path: str) -> bool:
        """Report a section that belongs to another engine as one problem, instead of all its keys."""
        for name in _FAMILY_FIELDS:
            if name not in fields or name not in node or path == "model":
                continue
            hint = fields[name][0]
            allowed = typing.get_args(hint) if typing.get_origin(hint) is Literal else (self.engine,)
            if node[name] in allowed:
                continue
            # One message for one cause: a dataset of the wrong kind comes with its recipe groups.
            if not self.mismatched and (run := self.foreign_run()):
                self.report("checkpoint", run, self.config.get("checkpoint"))
            elif not self.mismatched:
                options = options_with(path, name, allowed)
                self.report(
                    f"{path}.{name}",
                    f"the {self.engine} engine (model.name={_show(self.config.model.get('name'))}) needs "
                    f"{name} {' or '.join(map(str, allowed))}"
                    + (f"; choose {path}={'|'.join(options)}" if options else ""),
                    node[name],
                )
            self.mismatched = True
            return True
        return False

    def foreign_run(self) -> str:
        """What is wrong with a checkpoint of another engine's run, whose config came along; empty if it is not one."""
        checkpoint = self.config.get("checkpoint")
        try:
            saved = config_of(Path(str(checkpoint))) if checkpoint else None
        except CheckpointError:
            return ""
        model = (saved or {}).get("model", {})
        if not model or model.get("engine") == self.engine:
            return ""
        return (
            f"comes from a run of {model.get('name')}, of the {model.get('engine')} engine; "
            f"model.name={_show(self.config.model.get('name'))} is of the {self.engine} engine. Leave model=... out"
        )

    def value(self, hint: Any, value: Any, path: str, metadata: Mapping[str, Any]) -> Any:
        """Return `value` as the type that `hint` names; reports what does not fit."""
        options = options_of(hint)
        for option in options:
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                if value is None and type(None) in options:
                    return None
                return self.dataclass(option, value, path)
        fits, converted = convert(hint, value)
        if value == "" or (value == [] and len(options) > 1 and type(None) not in options):
            self.report(path, "is empty; " + ("null leaves it out" if type(None) in options else "give a value"), value)
            return stand_in(options, metadata)
        if fits:
            self.bounds(converted, value, path, metadata)
            return converted
        literals = [choice for option in options for choice in literals_of(option)]
        expected = one_of(value, literals) if literals else "expected " + describe(options, metadata)
        if meaning := meant_value(path, value):
            expected += f"; {meaning}"
        if path == "mode" and (command := mode_of_another_tool(value)):
            expected = f"is {command} here; modes are {', '.join(map(str, literals))}"
        self.report(path, expected + (f" ({metadata['help']})" if metadata.get("help") else ""), value)
        return stand_in(options, metadata)

    def bounds(self, value: Any, found: Any, path: str, metadata: Mapping[str, Any]) -> None:
        numbers = value if isinstance(value, (list, tuple)) else [value]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            broken = [
                f"{sign} {metadata[name]}"
                for name, (sign, holds) in BOUNDS.items()
                if name in metadata and not holds(number, metadata[name])
            ]
            if broken or number != number:
                wanted = [f"{sign} {metadata[name]}" for name, (sign, _) in BOUNDS.items() if name in metadata]
                note = f" ({metadata['help']})" if metadata.get("help") else ""
                self.report(path, f"expected a number {' and '.join(wanted)}{note}", found)
                return


def _show(value: Any) -> str:
    text = repr(OmegaConf.to_container(value)) if OmegaConf.is_config(value) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
