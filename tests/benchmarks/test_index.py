"""A million sightings: time of a query, memory and recall, compared one by one and by faiss."""

import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.inference import index as module
from watchme.inference.index import ExactIndex, open_index

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

COUNT, DIMENSIONS, PEOPLE = 1_000_000, 512, 5_000
QUERIES = 20
GIB = 2**30


def write_sightings(path: Path) -> NDArray[np.float32]:
    """(COUNT, DIMENSIONS) float32 of unit norm, a file: people, each seen some 200 times, in the order of tracks."""
    rng = np.random.default_rng(0)
    # Embeddings of people lie close to a space of fewer dimensions, which is what inverted lists live on.
    basis = rng.normal(size=(64, DIMENSIONS)).astype(np.float32)
    people = rng.normal(size=(PEOPLE, 64)).astype(np.float32) @ basis
    mapped = np.lib.format.open_memmap(path, "w+", np.float32, (COUNT, DIMENSIONS))
    for start in range(0, COUNT, 50_000):
        seen = people[np.arange(start, start + 50_000) * PEOPLE // COUNT]
        noise = rng.standard_normal((len(seen), DIMENSIONS), np.float32)
        rows = seen + 6 * noise
        mapped[start : start + len(rows)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    mapped.flush()
    del mapped
    found: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return found


def private_gib() -> float:
    """Memory of this process that is not of mapped files."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024 / GIB


def gib_of_opening(path: Path, folder: Path) -> float:
    """Memory of an index that was built before, once it has been searched."""
    embeddings = np.load(path, mmap_mode="r")
    before = private_gib()
    index = open_index(embeddings, folder, "faiss")
    index.search(np.asarray(embeddings[0]), 100)
    return private_gib() - before


def timed(search: Callable[[NDArray[np.float32], int], Any], queries: NDArray[np.float32]) -> tuple[float, list[Any]]:
    """Median seconds of a query, and what each found."""
    seconds, found = [], []
    for query in queries:
        began = time.perf_counter()
        found.append(search(query, 100))
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)), found


def test_a_million_sightings(tmp_path: Path) -> None:
    if importlib.util.find_spec("faiss") is None:
        pytest.skip("faiss-cpu is an extra")
    embeddings = write_sightings(tmp_path / "embeddings.npy")
    rng = np.random.default_rng(1)
    queries = embeddings[np.sort(rng.choice(COUNT, QUERIES, replace=False))]
    queries = queries + 0.1 * rng.standard_normal(queries.shape, np.float32) / DIMENSIONS**0.5
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    before = private_gib()
    exact = ExactIndex(embeddings)
    exact.search(queries[0], 100)  # reads the file into the system's cache
    exact_s, wanted = timed(exact.search, queries)
    exact_gib = private_gib() - before
    began = time.perf_counter()
    built = open_index(embeddings, tmp_path, "faiss")
    build_s = time.perf_counter() - began
    began = time.perf_counter()
    opened = open_index(embeddings, tmp_path, "faiss")
    open_s = time.perf_counter() - began
    del built
    # In a process of its own: what building took is not given back to the system at once.
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        faiss_gib = other.submit(gib_of_opening, tmp_path / "embeddings.npy", tmp_path).result()
    faiss_s, found = timed(opened.search, queries)
    recall = np.mean([np.isin(a.place, b.place).mean() for a, b in zip(wanted, found, strict=True)])
    print(f"\n{COUNT:,} sightings x {DIMENSIONS} float32, 100 nearest of {QUERIES} queries, median")
    print(f"  one by one  {exact_s * 1000:7.1f} ms   {exact_gib:5.2f} GiB above the file's pages")
    print(f"  faiss       {faiss_s * 1000:7.1f} ms   {faiss_gib:5.2f} GiB   recall {recall:.3f}")
    print(f"  {opened.about}; built in {build_s:.0f} s, opened in {open_s:.1f} s")
    assert exact_gib < 0.5
    assert faiss_gib < 1.5
    assert recall > module.RECALL - 0.03
    assert faiss_s < exact_s
