"""A few out of many, at equal distances."""

import pytest

from watchme.core.spacing import evenly


@pytest.mark.parametrize(
    ("count", "wanted", "numbers"),
    [(10, 4, [0, 3, 6, 9]), (10, 5, [0, 2, 4, 7, 9]), (3, 5, [0, 1, 2]), (9, 1, [0]), (9, 0, []), (0, 3, [])],
)
def test_evenly(count: int, wanted: int, numbers: list[int]) -> None:
    assert evenly(count, wanted) == numbers


def test_no_number_comes_twice() -> None:
    for count in range(1, 60):
        for wanted in range(1, count + 1):
            assert len(set(evenly(count, wanted))) == wanted
