"""The ranks of the true matches of each query, exact under ties, without ordering the gallery."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Identities:
    """Identity and camera of each image, with the gallery indexed by identity."""

    query_pids: Ints  # (Q,) int64 person identities; likewise query_cams, gallery_pids, gallery_cams
    gallery_pids: Ints
    query_cams: Ints
    gallery_cams: Ints
    by_person: Ints  # (G,) gallery indices ordered by person
    starts: Ints  # (Q,) where a query's person begins in ``by_person``
    stops: Ints  # (Q,) where it ends

    @classmethod
    def of(
        cls, query_pids: Any, gallery_pids: Any, query_cams: Any, gallery_cams: Any, num_queries: int, num_gallery: int
    ) -> "Identities":
        """Check and index the identities.

        Raises:
            ValueError: not one integer an image.
        """
        q_pids = _integers(query_pids, "query_pids", num_queries)
        g_pids = _integers(gallery_pids, "gallery_pids", num_gallery)
        q_cams = _integers(query_cams, "query_cams", num_queries)
        g_cams = _integers(gallery_cams, "gallery_cams", num_gallery)
        by_person = np.argsort(g_pids, kind="stable")
        people = g_pids[by_person]
        starts, stops = np.searchsorted(people, q_pids), np.searchsorted(people, q_pids, side="right")
        return cls(q_pids, g_pids, q_cams, g_cams, by_person, starts, stops)

    @property
    def most_matches(self) -> int:
        """The most gallery images that any query's person has, of any camera."""
        return int((self.stops - self.starts).max())

    def left_out(self, query: int) -> Bools:
        """(G,) gallery images of the query's person by the query's camera."""
        same_person = self.gallery_pids == self.query_pids[query]
        found: Bools = same_person & (self.gallery_cams == self.query_cams[query])
        return found


def match_ranks(block: Tensor, identities: Identities, start: int) -> tuple[Ints, Bools]:
    """Ranks of the gallery images of each query's person.

    Args:
        block: (n, G) finite distances of the queries ``start`` to ``start + n``, float32 or float64.
        identities: of all queries and the gallery.
        start: index of the block's first query.

    Returns:
        Two (n, M) arrays, a query's images in order of distance: 1-based ranks in the gallery without the
        left-out images, and which entries are matches (not left out, not padding). The
        other entries hold some positive number.
    """
    queries = slice(start, start + len(block))
    counts = identities.stops[queries] - identities.starts[queries]
    slots = np.arange(counts.max(initial=0))
    present = slots < counts[:, None]
    spots = np.where(present, identities.starts[queries, None] + slots, 0)
    columns = identities.by_person[spots]
    valid = present & (identities.gallery_cams[columns] != identities.query_cams[queries, None])
    if not valid.any():
        return np.ones(valid.shape, np.int64), valid

    # Distances to the person's own images, nearest first; padding goes to the end.
    where = torch.from_numpy(columns).to(block.device)
    padding = torch.from_numpy(~present).to(block.device)
    own, order = block.gather(1, where).masked_fill_(padding, torch.inf).sort(dim=1)
    nearest_first = order.cpu().numpy()
    valid = np.take_along_axis(valid, nearest_first, axis=1)
    before, upto = (_counts if block.device.type == "cpu" else _counts_on_device)(block, own)
    tied = ((upto != before) & valid).any(axis=1)

    # Only a tie between a match and another person's image leaves the rank open; order such rows in full.
    open_rows = np.flatnonzero(tied)

    def resolve(row: int) -> None:
        own_columns = columns[row, : counts[row]]
        place = np.empty(block.shape[1], np.int64)
        place[np.argsort(block[row].cpu().numpy())] = np.arange(len(place))
        places = place[own_columns]
        nearest = places.argsort()
        before[row, : counts[row]] = places[nearest] - np.arange(counts[row])
        left_out = identities.gallery_cams[own_columns] == identities.query_cams[start + row]
        valid[row, : counts[row]] = ~left_out[nearest]

    _in_threads(resolve, open_rows.tolist())
    return np.maximum(before + valid.cumsum(axis=1), 1), valid


def single_shot_ranks(
    distances: Tensor, identities: Identities, query: int, random: np.random.RandomState, repeats: int
) -> Ints:
    """Ranks of a query's match in random galleries that hold one image of each person.

    Args:
        distances: (G,) of the query.
        identities: of all queries and the gallery.
        query: its index; it has at least one match.
        random: source of the choices. People are drawn in the order in which they appear in the ranking, so
            that a legacy ``RandomState`` gives what torchreid draws from numpy's global one.
        repeats: number of galleries.

    Returns:
        (repeats,) 1-based ranks.
    """
    order = np.argsort(distances.cpu().numpy())
    pids = identities.gallery_pids[order[~identities.left_out(query)[order]]]
    people, first, counts = np.unique(pids, return_index=True, return_counts=True)
    appearance = first.argsort()
    places = np.argsort(pids, kind="stable")
    begins = (counts.cumsum() - counts)[appearance]
    drawn = random.randint(0, np.broadcast_to(counts[appearance], (repeats, len(people))))
    chosen = places[begins + drawn]
    match = chosen[:, people[appearance] == identities.query_pids[query]]
    return np.asarray(1 + (chosen < match).sum(axis=1), np.int64)


def _integers(values: Any, name: str, length: int) -> Ints:
    """The values as (length,) int64."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != (length,) or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be {length} integers, one an image: got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _counts(block: Tensor, own: Tensor) -> tuple[Ints, Ints]:
    """How many other people's images are nearer than each of the person's own, and how many at most as far.

    numpy sorts values without carrying indices, with SIMD, and outside the GIL; a row at a time stays in the cache.

    Args:
        block: (n, G) distances on the CPU.
        own: (n, M) distances to images of the query's person, ascending.
    """
    lines, values = block.numpy(), own.numpy()
    before, upto = np.empty(own.shape, np.int64), np.empty(own.shape, np.int64)

    def count(rows: Ints) -> None:
        line = np.empty_like(lines[0])
        for row in rows.tolist():
            np.copyto(line, lines[row])
            line.sort()
            before[row] = line.searchsorted(values[row])
            upto[row] = line.searchsorted(values[row], side="right")

    _in_threads(count, np.array_split(np.arange(len(lines)), torch.get_num_threads()))
    return before - _counted(own, own, right=False), upto - _counted(own, own, right=True)


def _counts_on_device(block: Tensor, own: Tensor) -> tuple[Ints, Ints]:
    """As ``_counts``, of distances on any device."""
    everyone = block.sort(dim=1).values
    before = _counted(everyone, own, right=False) - _counted(own, own, right=False)
    return before, _counted(everyone, own, right=True) - _counted(own, own, right=True)


def _counted(ascending: Tensor, values: Tensor, *, right: bool) -> Ints:
    """Per row, how many of the ascending entries are smaller than (right: at most) each value."""
    found: Ints = torch.searchsorted(ascending, values, right=right).cpu().numpy()
    return found


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> None:
    """Call the function on every item, on as many threads as torch uses; raises what it raises."""
    if not items:
        return
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        for _ in pool.map(function, items):
            pass
