"""Values of a composed config: interpolations resolved one by one, and the environment variable that one is from."""

import os
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from watchme.core.errors import Problem

_ENV = re.compile(r"\$\{(?:oc\.env|env|env_text):\s*([A-Za-z_][A-Za-z0-9_]*)")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


def resolve(config: DictConfig, problems: list[Problem]) -> tuple[dict[str, Any], set[str]]:
    """Resolve leaf by leaf, so that one broken interpolation does not hide the other problems."""
    unresolved: set[str] = set()

    def visit(node: Any, path: str) -> Any:
        if not isinstance(node, DictConfig):
            return OmegaConf.to_container(node, resolve=True)
        out: dict[str, Any] = {}
        for key in node:
            name = str(key)
            where = f"{path}.{name}" if path else name
            try:
                value = node[key]
                out[name] = visit(value, where) if OmegaConf.is_config(value) else value
            except OmegaConfBaseException as error:
                unresolved.add(where)
                if OmegaConf.is_missing(node, key):
                    expected = "a value is required here"
                else:
                    expected = str(error).splitlines()[0]
                problems.append(Problem(where, expected))
        return out

    plain = visit(config, "")
    assert isinstance(plain, dict)
    return plain, unresolved


def environment_source(config: DictConfig, key: str, depth: int = 4) -> str | None:
    """The environment variable that a value came from, followed through `${other.key}` references."""
    node: Any = config
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(node, DictConfig) or part not in node:
            return None
        node = node._get_node(part)
    if not isinstance(node, DictConfig) or last not in node:
        return None
    leaf: Any = node._get_node(last)
    raw = str(leaf._value()) if leaf is not None else ""
    for variable in _ENV.findall(raw):
        if os.environ.get(variable):
            return str(variable)
    if depth:
        for reference in _REFERENCE.findall(raw):
            if source := environment_source(config, reference, depth - 1):
                return source
    return None
