"""The differences between a stored search and the wanted one, as lines of text."""

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import json_to_distribution

from watchme.sweep.search_space import describe


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each difference between the stored `Plan.identity` and the wanted one."""
    lines = []
    before, now = stored.get("space", {}), wanted["space"]
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            lines.append(f"{name}: stored {_described(before.get(name))}, now {_described(now.get(name))}")
    gone = sorted(set(stored.get("fixed", [])) - set(wanted["fixed"]))
    new = sorted(set(wanted["fixed"]) - set(stored.get("fixed", [])))
    lines += [f"stored only: {override}" for override in gone] + [f"now only: {override}" for override in new]
    for key in ("objectives", "directions", "custom_search_space"):
        if stored.get(key) != wanted[key]:
            lines.append(f"{key}: stored {stored.get(key)}, now {wanted[key]}")
    return lines


def _described(stored: Mapping[str, Any] | None) -> str:
    return "not searched" if stored is None else describe(json_to_distribution(json.dumps(stored)))
