"""How many batches and images `train.limit_batches` leaves."""

import pytest

from watchme.core.batch_limit import Limit, limited, limited_images, not_comparable


@pytest.mark.parametrize(
    ("batches", "limit", "left"),
    [(10, None, 10), (10, 3, 3), (10, 30, 10), (10, 1, 1), (10, 1.0, 10), (10, 0.25, 2), (10, 0.01, 1)],
)
def test_a_count_or_a_share_and_at_least_one(batches: int, limit: Limit, left: int) -> None:
    assert limited(batches, limit) == left


def test_images_are_those_of_whole_batches() -> None:
    assert limited_images(45, 10, 2) == 20
    assert limited_images(45, 10, 9) == 45
    assert limited_images(45, 10, 0.5) == 20  # two of five batches
    assert limited_images(5, 10, 1) == 5


def test_one_batch_and_a_share_read_well() -> None:
    assert not_comparable(1).startswith("train.limit_batches=1: 1 batch of each epoch")
    assert not_comparable(0.5).startswith("train.limit_batches=0.5: a share of 0.5 of the batches of each epoch")
