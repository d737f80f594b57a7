"""Which images make up the batches of an epoch: a pure function of seed and epoch, cut into shares for processes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from watchme.core.batch_limit import Limit, limited
from watchme.core.errors import ConfigError, Problem
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import OsnetTrain


class Draw(NamedTuple):
    """One image of one epoch. `position` counts the draws of an epoch over all processes."""

    image: int
    seed: int
    epoch: int
    position: int


def identity_batches(pids: Sequence[int], batch_size: int, instances: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of P = batch_size / instances identities with `instances` images each (Hermans et al., 2017).

    Each identity's images are shuffled and cut into groups; a batch takes a group of each of P identities drawn at
    random from those that have groups left, as torchreid's RandomIdentitySampler does. An identity with fewer images
    than `instances` repeats some; images of an incomplete last group sit out this epoch. `pids` are the identities of
    the images; `batch_size` is a multiple of `instances`.
    """
    by_pid: dict[int, list[int]] = defaultdict(list)
    for index, pid in enumerate(pids):
        by_pid[pid].append(index)
    groups: dict[int, list[list[int]]] = {}
    for pid, members in by_pid.items():
        if len(members) < instances:
            members = rng.choice(members, instances, replace=True).tolist()
        order = rng.permutation(members).tolist()
        groups[pid] = [order[at : at + instances] for at in range(0, len(order) - instances + 1, instances)]
    available = list(groups)
    per_batch = batch_size // instances
    batches = []
    while len(available) >= per_batch:
        chosen = rng.choice(len(available), per_batch, replace=False)
        batch: list[int] = []
        for pid in [available[place] for place in chosen]:
            batch += groups[pid].pop()
            if not groups[pid]:
                available.remove(pid)
        batches.append(batch)
    return batches


def random_batches(count: int, batch_size: int, rng: np.random.Generator) -> list[list[int]]:
    """All images in random order; the last incomplete batch sits out, since batch normalisation needs full ones."""
    order = rng.permutation(count).tolist()
    if count < batch_size:
        return [order]
    return [order[at : at + batch_size] for at in range(0, count - batch_size + 1, batch_size)]


def grouped_batches(
    groups: Sequence[int], batch_size: int, wanted: int | None, rng: np.random.Generator
) -> list[list[int]]:
    """Batches of equally many images of each of `wanted` groups (None: all), as of torchreid's samplers.

    Groups (the camera or the dataset of each image) are drawn again for each batch, their images without repetition;
    the epoch ends once one of them has too few left for another batch. `batch_size` is a multiple of `wanted`, and each
    group has at least batch_size / wanted images.
    """
    left: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        left[group].append(index)
    left = {group: rng.permutation(members).tolist() for group, members in sorted(left.items())}
    names = list(left)
    share = batch_size // (wanted or len(names))
    batches = []
    while True:
        batch: list[int] = []
        chosen = [names[place] for place in rng.choice(len(names), wanted or len(names), replace=False)]
        for group in chosen:
            batch += left[group][:share]
            del left[group][:share]
        batches.append(batch)
        if any(len(left[group]) < share for group in chosen):
            return batches


@dataclass(eq=False)
class EpochBatches(Sampler[list[Draw]]):
    """The batches of the epoch that `set_epoch` names, or one process's share of each.

    A process takes a contiguous part of every batch, so that the processes together see the batches that one process
    would. With identity batches a part holds whole groups of an identity.
    """

    pids: Sequence[int]  # identity of each training image (or tracklet)
    batch_size: int  # images in a batch over all processes
    instances: int | None  # images of an identity in a batch; None: random batches, or those of `groups`
    seed: int  # with the epoch decides the batches
    process: int = 0  # number of this process
    processes: int = 1  # how many there are; the batch size is a multiple of it
    groups: Sequence[int] | None = None  # group of each image, for `grouped_batches`
    wanted: int | None = None  # how many groups a batch holds; None: all
    limit: Limit = None  # `train.limit_batches`; with it every epoch has the first batches of the first one

    def __post_init__(self) -> None:
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Decide the batches of an epoch (from 1)."""
        self.epoch = epoch
        rng = np.random.default_rng((self.seed, epoch if self.limit is None else 1))
        if self.groups is not None:
            self.batches = grouped_batches(self.groups, self.batch_size, self.wanted, rng)
        elif self.instances is None:
            self.batches = random_batches(len(self.pids), self.batch_size, rng)
        else:
            self.batches = identity_batches(self.pids, self.batch_size, self.instances, rng)
        self.batches = self.batches[: limited(len(self.batches), self.limit)]

    def __iter__(self) -> Iterator[list[Draw]]:
        for number, batch in enumerate(self.batches):
            share = len(batch) // self.processes
            start = self.process * share
            for_all = number * self.batch_size
            yield [
                Draw(index, self.seed, self.epoch, for_all + start + place)
                for place, index in enumerate(batch[start : start + share])
            ]

    def __len__(self) -> int:
        return len(self.batches)


def batches_for(train: OsnetTrain, crops: Sequence[Crop], process: int, processes: int) -> EpochBatches:
    """The batches that `train.sampler` asks for.

    Raises:
        ConfigError: If the training set is too small for a batch, or cannot be shared out as asked.
    """
    pids = [crop.pid for crop in crops]
    if train.sampler in ("domain", "dataset"):
        by_camera = train.sampler == "domain"
        key, what = ("num_cams", "cameras") if by_camera else ("num_datasets", "source datasets")
        groups = [crop.cam if by_camera else crop.dataset for crop in crops]
        wanted = getattr(train, key)
        _check_groups(Counter(groups), wanted, train.batch_size, f"train.{key}", what)
        options: dict[str, Any] = {"groups": groups, "wanted": wanted, "limit": train.limit_batches}
        return EpochBatches(pids, train.batch_size, None, train.seed, process, processes, **options)
    instances, limit = train.num_instances if train.sampler == "identity" else None, train.limit_batches
    batches = EpochBatches(pids, train.batch_size, instances, train.seed, process, processes, limit=limit)
    if not batches.batches:
        raise _wrong(
            "train.batch_size",
            f"the training set has {len(set(pids))} identities, fewer than the "
            f"{train.batch_size // train.num_instances} of a batch; lower it or raise train.num_instances",
            train.batch_size,
        )
    return batches


def _check_groups(sizes: Counter[int], wanted: int | None, batch_size: int, key: str, what: str) -> None:
    count = wanted or len(sizes)
    if count > len(sizes):
        raise _wrong(key, f"there are {len(sizes)} {what} in the training set", wanted)
    if batch_size % count:
        raise _wrong("train.batch_size", f"must be a multiple of the {count} {what} in a batch ({key})", batch_size)
    few = min(sizes, key=lambda group: sizes[group])
    if sizes[few] < batch_size // count:
        # Cameras are counted over all sources.
        text = f"one of the {what} has {sizes[few]} images, fewer than the {batch_size // count} of each in a batch"
        raise _wrong("train.batch_size", f"{text}; lower it or raise {key}", batch_size)


def _wrong(key: str, expected: str, found: object) -> ConfigError:
    return ConfigError([Problem(key, expected, str(found))])
