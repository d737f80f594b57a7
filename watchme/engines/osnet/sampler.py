"""Which images make up the batches of an epoch: a pure function of seed and epoch, cut into shares for processes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


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
    than `instances` repeats some; images of an incomplete last group sit out this epoch.

    Args:
        pids: Identity of each image.
        batch_size: Images in a batch, a multiple of `instances`.
        instances: Images of an identity in a batch.
        rng: Decides.
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


class EpochBatches(Sampler[list[Draw]]):
    """The batches of the epoch that `set_epoch` names, or one process's share of each.

    A process takes a contiguous part of every batch, so that the processes together see the batches that one process
    would. With identity batches a part holds whole groups of an identity.

    Args:
        pids: Identity of each training image.
        batch_size: Images in a batch over all processes.
        instances: Images of an identity in a batch; None: random batches.
        seed: With the epoch decides the batches.
        process: Number of this process.
        processes: How many there are; the batch size is a multiple of it.
    """

    def __init__(
        self,
        pids: Sequence[int],
        batch_size: int,
        instances: int | None,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.pids = pids
        self.batch_size = batch_size
        self.instances = instances
        self.seed = seed
        self.process = process
        self.processes = processes
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Decide the batches of an epoch (from 1)."""
        self.epoch = epoch
        rng = np.random.default_rng((self.seed, epoch))
        if self.instances is None:
            self.batches = random_batches(len(self.pids), self.batch_size, rng)
        else:
            self.batches = identity_batches(self.pids, self.batch_size, self.instances, rng)

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
