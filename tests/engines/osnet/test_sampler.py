"""Batches by camera and by source: composition against torchreid's samplers, shares of processes, resuming."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchreid.reid.data.sampler import RandomDatasetSampler, RandomDomainSampler, RandomIdentitySampler

from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.sampler import EpochBatches, batches_for, grouped_batches, identity_batches

Typed = Callable[..., RunConfig]
# Cameras 0, 2 and 3 of source 0 and camera 5 of source 1.
CROPS = [
    Crop(Path(f"{cam}_{number}.jpg"), number % 7 + 1, cam, dataset=int(cam == 5))
    for cam, count in ((0, 40), (2, 25), (3, 60), (5, 31))
    for number in range(count)
]
SAMPLERS: list[tuple[str, Any, list[int]]] = [
    ("domain", RandomDomainSampler, [crop.cam for crop in CROPS]),
    ("dataset", RandomDatasetSampler, [crop.dataset for crop in CROPS]),
]


def composition(batches: Sequence[Sequence[int]], groups: Sequence[int]) -> Counter[tuple[tuple[int, int], ...]]:
    """How often each mixture of groups is a batch."""
    return Counter(tuple(sorted(Counter(groups[index] for index in batch).items())) for batch in batches)


@pytest.mark.parametrize(("name", "reference", "groups"), SAMPLERS, ids=["domain", "dataset"])
@pytest.mark.parametrize("wanted", [1, 2, None])
def test_batches_are_composed_as_torchreids(name: str, reference: Any, groups: list[int], wanted: int | None) -> None:
    """Over many epochs: the same mixtures, about as often each, and about as many batches."""
    size, epochs = 8, 300
    source = [(str(crop.path), crop.pid, crop.cam, crop.dataset) for crop in CROPS]
    random.seed(0)
    sampler = reference(source, size, wanted)
    theirs: Counter[Any] = Counter()
    ours: Counter[Any] = Counter()
    for epoch in range(epochs):
        drawn = list(sampler)
        theirs += composition([drawn[at : at + size] for at in range(0, len(drawn), size)], groups)
        batches = grouped_batches(groups, size, wanted, np.random.default_rng(epoch))
        assert all(len(batch) == size for batch in batches)
        flat = [index for batch in batches for index in batch]
        assert len(flat) == len(set(flat))
        ours += composition(batches, groups)
    assert ours.keys() == theirs.keys()
    assert ours.total() / epochs == pytest.approx(theirs.total() / epochs, rel=0.05)
    for mixture, count in theirs.items():
        assert ours[mixture] == pytest.approx(count, rel=0.2)


@pytest.fixture
def train_of(typed_config: Typed) -> Callable[..., Any]:
    def build(*overrides: str) -> Any:
        config = typed_config("model=osnet_x0_25", "loss=softmax", "train.batch_size=8", *overrides)
        assert isinstance(config, Config)
        return config.train

    return build


@pytest.mark.parametrize("sampler", ["random", "identity", "domain", "dataset"])
def test_processes_share_one_batch_and_an_epoch_is_found_again(sampler: str, train_of: Callable[..., Any]) -> None:
    train = train_of(f"train.sampler={sampler}", "train.num_cams=2", "train.num_datasets=2", "train.num_instances=2")
    whole = batches_for(train, CROPS, 0, 1)
    shares = [batches_for(train, CROPS, number, 2) for number in range(2)]
    resumed = batches_for(train, CROPS, 0, 1)
    seen = []
    for epoch in range(1, 4):
        for batches in (whole, *shares):
            batches.set_epoch(epoch)
        for one, left, right in zip(whole, *shares, strict=True):
            assert one == left + right
            assert len(left) == len(right)
        seen.append([draw.image for batch in whole for draw in batch])
    assert seen[0] != seen[1]
    resumed.set_epoch(3)
    assert list(resumed) == list(whole)


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (("train.sampler=domain", "train.num_cams=8"), "train.num_cams", "there are 4 cameras"),
        (("train.sampler=dataset", "train.num_datasets=4"), "train.num_datasets", "there are 2 source datasets"),
        (
            ("train.sampler=domain", "train.num_cams=null", "train.batch_size=6"),
            "train.batch_size",
            r"multiple of the 4 cameras in a batch \(train.num_cams\)",
        ),
        (("train.sampler=domain", "train.batch_size=32"), "train.batch_size", "has 25 images, fewer than the 32"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    overrides: tuple[str, ...], key: str, expected: str, train_of: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        batches_for(train_of(*overrides), CROPS, 0, 1)
    assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("train.sampler=domain", "train.num_cams=3"), "multiple of train.num_cams=3"),
        (("train.sampler=dataset", "train.num_datasets=3"), "multiple of train.num_datasets=3"),
        (("train.sampler=domain", "train.processes=3"), "must be a multiple of 3"),
    ],
)
def test_batches_that_cannot_be_cut_are_refused_at_once(
    overrides: tuple[str, ...], expected: str, train_of: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigError, match=expected):
        train_of(*overrides)


@pytest.mark.parametrize("options", [("train.sampler=domain", "train.num_cams=2"), ("train.sampler=dataset",)])
def test_a_run_trains(
    options: tuple[str, ...], run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path
) -> None:
    done = run_engine(
        tmp_path,
        "model=osnet_x0_25",
        "dataset=market1501",
        "model.weights=null",
        f"dataset.root={small_world.reid}",
        "dataset.height=64",
        "dataset.width=32",
        "dataset.val_identities=3",
        "train.batch_size=8",
        "train.workers=0",
        "train.epochs=1",
        "loss=softmax",
        "evaluation.visrank=0",
        *options,
    )
    assert np.isfinite(done.events[-1].metrics["train/loss"])


class TestIdentityBatches:
    pids = tuple(pid for pid in range(10) for _ in range(4 + pid))

    def test_batches_hold_p_identities_of_k_images(self) -> None:
        for batch in identity_batches(self.pids, 16, 4, np.random.default_rng(0)):
            counts = Counter(self.pids[index] for index in batch)
            assert len(batch) == 16
            assert set(counts.values()) == {4}

    def test_as_many_batches_as_torchreids_sampler_makes(self) -> None:
        source = [("", pid, 0, 0) for pid in self.pids]
        ours = [len(identity_batches(self.pids, 16, 4, np.random.default_rng(seed))) for seed in range(200)]
        sampler = RandomIdentitySampler(source, 16, 4)
        random.seed(0)
        np.random.seed(0)
        reference = [len(list(sampler)) // 16 for _ in range(200)]
        assert abs(np.mean(ours) - np.mean(reference)) < 0.15

    def test_no_image_twice_unless_an_identity_has_too_few(self) -> None:
        drawn = [index for batch in identity_batches(self.pids, 16, 4, np.random.default_rng(1)) for index in batch]
        assert len(drawn) == len(set(drawn))
        few = identity_batches([0, 0, 1, 1, 1, 1], 8, 4, np.random.default_rng(1))
        assert Counter([0, 0, 1, 1, 1, 1][index] for index in few[0]) == {0: 4, 1: 4}

    def test_processes_together_see_what_one_process_sees(self) -> None:
        whole = EpochBatches(self.pids, 16, 4, seed=3)
        shares = [EpochBatches(self.pids, 16, 4, seed=3, process=number, processes=2) for number in range(2)]
        for batches in (whole, *shares):
            batches.set_epoch(5)
        for one, left, right in zip(whole, *shares, strict=True):
            assert one == left + right

    def test_an_epoch_depends_on_seed_and_number_alone(self) -> None:
        first, second = EpochBatches(self.pids, 16, 4, seed=3), EpochBatches(self.pids, 16, 4, seed=3)
        for epoch in range(1, 5):
            first.set_epoch(epoch)
        second.set_epoch(4)
        assert list(first) == list(second)
        second.set_epoch(5)
        assert list(first) != list(second)
