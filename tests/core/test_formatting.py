"""Numbers, durations and nested configs as text."""

import math

import pytest

from watchme.core.formatting import UNDEFINED, clock, duration, flatten, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, UNDEFINED),
        (math.nan, UNDEFINED),
        (3, "3"),
        (0.5, "0.5000"),
        (12.0, "12"),
        (123.45, "123.5"),
        (1e-5, "1.00e-05"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, UNDEFINED),
        (4.23, "4.2 s"),
        (42, "42 s"),
        (179.7, "3 min 0 s"),
        (185, "3 min 5 s"),
        (3590, "1 h 0 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_flatten_joins_keys_by_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (7.26, "0:07.3"),
        (59.96, "1:00.0"),
        (723, "12:03.0"),
        (3723.04, "1:02:03.0"),
        (math.nan, "\u2013"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
