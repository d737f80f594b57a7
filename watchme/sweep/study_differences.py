"""In what two searches differ, as a person reads it."""

from collections.abc import Mapping
from typing import Any


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each thing in which a stored search (`SearchSpace.fingerprint`) differs from the one wanted."""
    lines = []
    before, now = stored.get("space", {}), wanted["space"]
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            lines.append(f"{name}: stored {_brief(before.get(name))}, now {_brief(now.get(name))}")
    gone = sorted(set(stored.get("fixed", [])) - set(wanted["fixed"]))
    new = sorted(set(wanted["fixed"]) - set(stored.get("fixed", [])))
    lines += [f"stored only: {override}" for override in gone] + [f"now only: {override}" for override in new]
    for key in ("objectives", "directions"):
        if stored.get(key) != wanted[key]:
            lines.append(f"{key}: stored {stored.get(key)}, now {wanted[key]}")
    return lines


def _brief(distribution: Mapping[str, Any] | None) -> str:
    if distribution is None:
        return "not searched"
    found = distribution["attributes"]
    if "choices" in found:
        return "choice(" + ",".join(map(str, found["choices"])) + ")"
    scale = "log " if found.get("log") else ""
    step = f" step {found['step']}" if found.get("step") not in (None, 1) else ""
    return f"{scale}{found['low']}..{found['high']}{step}"
