"""Identities held out for validation."""

import random
from collections import Counter
from pathlib import Path

import pytest

from watchme.core.errors import DataError
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.data.holdout import hold_out


def crowd(identities: int, cameras: int, seed: int = 0, images: int = 3) -> list[Crop]:
    """Identities that some of the cameras saw, some only one."""
    rng = random.Random(seed)
    crops = []
    for pid in range(1, identities + 1):
        for cam in rng.sample(range(cameras), rng.randint(1, cameras)):
            crops += [Crop(Path(f"{pid}_{cam}_{number}.jpg"), pid, cam) for number in range(images)]
    return crops


class TestSplit:
    @pytest.mark.parametrize("seed", range(5))
    def test_every_query_has_a_match_from_another_camera(self, seed: int) -> None:
        held = hold_out(crowd(40, 4, seed), 0.2, seed)
        assert len({crop.pid for crop in held.gallery}) == 8
        for query in held.query:
            assert any(crop.pid == query.pid and crop.cam != query.cam for crop in held.gallery)

    def test_identities_are_disjoint_and_nothing_is_lost(self) -> None:
        crops = crowd(40, 4)
        held = hold_out(crops, 5, 0)
        assert not {crop.pid for crop in held.train} & {crop.pid for crop in held.gallery}
        assert sorted(map(str, [*held.train, *held.gallery])) == sorted(map(str, crops))

    def test_stable_for_a_seed_and_different_for_another(self) -> None:
        crops = crowd(40, 4)
        chosen = [{crop.pid for crop in hold_out(crops, 0.2, seed).gallery} for seed in (1, 1, 2)]
        assert chosen[0] == chosen[1] != chosen[2]

    def test_each_camera_is_served_in_proportion(self) -> None:
        crops = crowd(200, 6)
        held = hold_out(crops, 0.2, 0)
        seen = Counter(cam for _, cam in {(crop.pid, crop.cam) for crop in held.gallery})
        total = Counter(
            cam for pid, cam in {(c.pid, c.cam) for c in crops} if len({c.cam for c in crops if c.pid == pid}) > 1
        )
        shares = [seen[cam] / total[cam] for cam in total]
        assert max(shares) - min(shares) < 0.06

    def test_too_many_identities_are_refused_with_the_reason(self) -> None:
        with pytest.raises(DataError, match="seen by two cameras"):
            hold_out(crowd(10, 2), 10, 0)
