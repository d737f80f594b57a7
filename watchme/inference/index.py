"""Search among many embeddings: by all inner products, or, where they are very many, by faiss's inverted lists."""

import hashlib
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import ConfigError, Problem
from watchme.io.files import read_json, replace_json, replacing

log = logging.getLogger(__name__)

Search = Literal["auto", "exact", "faiss"]
LARGE = 1_000_000
"""From so many embeddings on, `auto` uses faiss if it is installed; before, all inner products take under a second."""
RECALL = 0.99
"""Share of the nearest neighbours that faiss must find, measured on a sample when the index is built."""
_FILE, _ABOUT = "index.faiss", "index.json"
_ROWS = 1 << 16  # compared at once: 128 MiB of 512 float32 each
_SAMPLE, _NEIGHBOURS = 100, 100  # queries that recall is measured with, and neighbours of each
_PER_LIST = 39  # faiss's least number of training points a list, and our number of them

Embeddings = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Hits:
    """What a search has found, the most similar first."""

    place: NDArray[np.int64]  # (K,) places in the index
    similarity: NDArray[np.float32]  # (K,) inner products with the query, float32


class ExactIndex:
    """Compares with every embedding.

    Args:
        embeddings: (N, D) of unit norm, float32 or float16; may be a memory map, of which a part at a time is read.
    """

    about = "all inner products"

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    def __len__(self) -> int:
        return len(self._embeddings)

    def similarities(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) inner products with a query of shape (D,)."""
        found = np.empty(len(self), np.float32)
        for start in range(0, len(self), _ROWS):
            rows = slice(start, start + _ROWS)
            found[rows] = np.asarray(self._embeddings[rows], np.float32) @ query
        return found

    def search(self, query: NDArray[np.float32], most: int) -> Hits:
        """The `most` nearest embeddings to a query of shape (D,); of equal ones the first come first."""
        similar = self.similarities(query)
        most = min(most, len(similar))
        if not most:
            return Hits(np.zeros(0, np.int64), np.zeros(0, np.float32))
        # All that reach the last rank, of which ties keep their order.
        least = np.partition(similar, len(similar) - most)[len(similar) - most]
        candidates = np.flatnonzero(similar >= least)
        order = candidates[np.argsort(-similar[candidates], kind="stable")][:most]
        return Hits(order, similar[order])


class FaissIndex:
    """Compares with the embeddings of the lists nearest to the query (an inverted file; Jegou et al., TPAMI 2011).

    Embeddings are kept as float16 in memory, so that N of D dimensions take 2 N D bytes; the similarities that are
    returned are those of the embeddings themselves.

    Args:
        embeddings: (N, D) of unit norm, as the index was built from.
        index: faiss's.
        recall: Share of the nearest neighbours that it has found of a sample.
    """

    def __init__(self, embeddings: Embeddings, index: Any, recall: float) -> None:
        self._embeddings = embeddings
        self._index = index
        self.recall = recall
        self.about = f"faiss, {index.nprobe} of {index.nlist} lists; {recall:.1%} of the nearest neighbours are found"

    def __len__(self) -> int:
        return len(self._embeddings)

    def search(self, query: NDArray[np.float32], most: int) -> Hits:
        """Nearly always the `most` nearest embeddings to a query of shape (D,)."""
        _, ((places),) = self._index.search(np.ascontiguousarray(query[None], np.float32), min(most, len(self)))
        places = np.sort(places[places >= 0]).astype(np.int64)
        similar = np.asarray(self._embeddings[places], np.float32) @ query
        order = np.argsort(-similar, kind="stable")
        return Hits(places[order], similar[order])


def open_index(embeddings: Embeddings, folder: Path, search: Search = "auto") -> ExactIndex | FaissIndex:
    """An index of these embeddings; that of faiss is built once and kept in `folder`.

    Args:
        embeddings: (N, D) of unit norm.
        folder: Of the sightings.
        search: `exact`; `faiss`; `auto`: faiss from `LARGE` embeddings on where it is installed.

    Raises:
        ConfigError: If faiss is asked for and is not installed.
    """
    installed = importlib.util.find_spec("faiss") is not None
    if search == "faiss" and not installed:
        raise ConfigError([Problem("find.search", "faiss is not installed: uv pip install faiss-cpu", repr(search))])
    if search == "auto" and len(embeddings) >= LARGE and not installed:
        log.info("%d sightings are compared one by one; faiss-cpu would search faster", len(embeddings))
    if search == "exact" or not installed or (search == "auto" and len(embeddings) < LARGE) or not len(embeddings):
        return ExactIndex(embeddings)
    import faiss

    about, digest = read_json(folder / _ABOUT), _digest(embeddings)
    if about.get("embeddings") == digest and (folder / _FILE).is_file():
        index: Any = faiss.read_index(str(folder / _FILE))
        index.nprobe = int(about["nprobe"])
        return FaissIndex(embeddings, index, float(about["recall"]))
    log.info("Building an index of %d sightings by faiss, once", len(embeddings))
    index = _build(embeddings, faiss)
    recall = _tune(index, embeddings)
    with replacing(folder / _FILE) as temporary:
        faiss.write_index(index, str(temporary))
    replace_json(folder / _ABOUT, {"embeddings": digest, "nprobe": index.nprobe, "recall": recall})
    return FaissIndex(embeddings, index, recall)


def _digest(embeddings: Embeddings) -> str:
    """Of the shape and some rows, by which other embeddings are noticed in less than the time of reading them all."""
    rows = np.linspace(0, len(embeddings) - 1, _SAMPLE).round().astype(np.int64)
    content = np.ascontiguousarray(embeddings[np.unique(rows)]).tobytes()
    return hashlib.sha256(f"{embeddings.shape}".encode() + content).hexdigest()[:20]


def _build(embeddings: Embeddings, faiss: Any) -> Any:
    count, dimensions = embeddings.shape
    # As many lists as embeddings in each: few enough to train on two cores in seconds.
    lists = max(1, round(count**0.5))
    index = faiss.index_factory(dimensions, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    chosen = np.sort(np.random.default_rng(0).permutation(count)[: _PER_LIST * lists])
    index.train(np.asarray(embeddings[chosen], np.float32))
    for start in range(0, count, _ROWS):
        index.add(np.asarray(embeddings[start : start + _ROWS], np.float32))
    return index


def _tune(index: Any, embeddings: Embeddings) -> float:
    """Set the lists that are looked into to the fewest that find `RECALL` of the neighbours; return what they find."""
    chosen = np.sort(np.random.default_rng(1).permutation(len(embeddings))[:_SAMPLE])
    queries = np.ascontiguousarray(embeddings[chosen], np.float32)
    most = min(_NEIGHBOURS, len(embeddings))
    exact = _nearest(embeddings, queries, most)
    index.nprobe = 1
    while True:
        _, found = index.search(queries, most)
        recall = float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))
        if recall >= RECALL or index.nprobe >= index.nlist:
            return recall
        index.nprobe = min(2 * index.nprobe, index.nlist)


def _nearest(embeddings: Embeddings, queries: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """(Q, most) places of the nearest embeddings, in one pass over them."""
    best = np.full((len(queries), 0), 0, np.int64)
    similar = np.zeros((len(queries), 0), np.float32)
    for start in range(0, len(embeddings), _ROWS):
        block = queries @ np.asarray(embeddings[start : start + _ROWS], np.float32).T
        places = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        similar, best = np.concatenate([similar, block], axis=1), np.concatenate([best, places], axis=1)
        if similar.shape[1] > most:
            kept = np.argpartition(-similar, most - 1, axis=1)[:, :most]
            similar, best = np.take_along_axis(similar, kept, axis=1), np.take_along_axis(best, kept, axis=1)
    return best
