"""How numbers, durations, paths and nested configs are written as text, on pages, in tables and on the console."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

UNDEFINED = "\u2013"


def number(value: Any) -> str:
    """A number with as many digits as a reader needs; a dash where it is undefined; text as it is."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return UNDEFINED
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value == int(value):
        return f"{value:.0f}" if abs(value) >= 10 or isinstance(value, int) else f"{value:.4f}"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def percent_rounded_down(share: float) -> str:
    """A share as 99.7%, rounded down, so that 0.99996 is not called all of it."""
    return f"{math.floor(share * 1000 + 1e-9) / 10:.1f}%"  # 1 - 0.07 is a little below 0.93


def duration(seconds: float | None) -> str:
    """Seconds as 4.2 s, 42 s, 3 min 5 s or 2 h 10 min; a dash for None."""
    if seconds is None:
        return UNDEFINED
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    whole, minutes = round(seconds), round(seconds / 60)
    return f"{whole // 60} min {whole % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def time_left(epoch: int, epochs: int, seconds: float) -> str:
    """The end of an epoch's line, such as `  3 min 5 s left`, where each takes so many seconds; empty at the last."""
    return f"  {duration((epochs - epoch) * seconds)} left" if epoch < epochs else ""


def clock(seconds: float) -> str:
    """A time in a video as 0:07.3, 12:03.0 or 1:02:03.0; a dash where there is none."""
    if not math.isfinite(seconds):
        return UNDEFINED
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{before}:{rest // 10:02d}.{rest % 10}"


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, the last of which stands for those that were cut off."""
    return text if len(text) <= most else text[: most - 1] + "…"


def first_few(lines: Sequence[str], most: int) -> list[str]:
    """The first of many lines, and how many more there are."""
    more = len(lines) - most
    return [*lines[:most], *([f"... and {more} more"] if more > 0 else [])]


def some_of(names: Sequence[str], most: int = 5) -> str:
    """The first of many names in one line, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def relative(path: Path) -> str:
    """A path as the user would type it: relative to the working directory where it is in it."""
    absolute, here = Path.cwd() / path, Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """Rows of cells as lines in columns; the columns that `right` numbers are aligned to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys: `{"a": {"b": 1}}` becomes `{"a.b": 1}`. Empty mappings are kept."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
