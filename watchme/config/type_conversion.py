"""Values and type hints: does a value fit, what was expected of it."""

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "ge": (">=", lambda value, bound: value >= bound),
    "gt": (">", lambda value, bound: value > bound),
    "le": ("<=", lambda value, bound: value <= bound),
    "lt": ("<", lambda value, bound: value < bound),
}


def options_of(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the hint alone."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def literals_of(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def convert(hint: Any, value: Any) -> tuple[bool, Any]:
    """(fits, converted) for a type hint. Only lossless conversions: 3 is a float, "3" is not."""
    for option in options_of(hint):
        fits, converted = _convert_option(option, value)
        if fits:
            return True, converted
    return False, value


def _convert_option(hint: Any, value: Any) -> tuple[bool, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True, value
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments), value
    if hint is float:
        number = type(value) in (int, float)
        return number, float(value) if number else value
    if hint in (bool, str, int, type(None)):
        return type(value) is hint, value
    if origin is dict:
        if not isinstance(value, Mapping):
            return False, value
        pairs = {str(key): convert(arguments[1], item) for key, item in value.items()}
        return all(fits for fits, _ in pairs.values()), {key: item for key, (_, item) in pairs.items()}
    if origin not in (list, tuple):
        raise TypeError(f"a config field has a type that validation.py does not know: {hint!r}")
    return _convert_sequence(origin, arguments, value)


def _convert_sequence(origin: Any, arguments: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    """As `convert`, for list[item] and tuple[first, second, ...]."""
    if not isinstance(value, (list, tuple)) or (origin is tuple and len(value) != len(arguments)):
        return False, value
    hints = arguments if origin is tuple else arguments * len(value)
    items = [convert(item_hint, item) for item_hint, item in zip(hints, value, strict=True)]
    return all(fits for fits, _ in items), origin(item for _, item in items)


def stand_in(options: Iterable[Any], metadata: Mapping[str, Any]) -> Any:
    """Some value of a hint, for going on after a wrong one; None where the hint has no simple one."""
    number = max(float(metadata.get("ge", 0)), float(metadata.get("gt", -1)) + 1, 1.0)
    number = min(number, float(metadata.get("le", number)), float(metadata.get("lt", number + 2)) / 2)
    options = list(options)
    if type(None) in options:
        return None
    for option in options:
        if option in (int, float, str, bool):
            return {int: int(number), float: number, str: "", bool: False}[option]
        if literals := literals_of(option):
            return literals[0]
        if typing.get_origin(option) is list:
            return []
    return None


def describe(options: Iterable[Any], metadata: Mapping[str, Any]) -> str:
    words = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    parts = []
    for option in options:
        origin = typing.get_origin(option)
        if option in words:
            parts.append(words[option])
        elif origin is list:
            parts.append("a list of " + words.get(typing.get_args(option)[0], "items"))
        elif origin is tuple:
            parts.append(f"a list of {len(typing.get_args(option))}")
        elif origin is dict:
            parts.append("a section")
    bounds = [f"{sign} {metadata[name]}" for name, (sign, _) in BOUNDS.items() if name in metadata]
    return " or ".join(parts) + (" " + " and ".join(bounds) if bounds else "")
