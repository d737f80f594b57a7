"""Exact search against NumPy's sorting; faiss against exact search, kept, and told apart by what it was built from."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.core.errors import ConfigError
from watchme.inference import index as module
from watchme.inference.index import ExactIndex, FaissIndex, open_index

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss-cpu is an extra")


def unit(count: int, dimensions: int = 32, seed: int = 0, clusters: int = 40) -> NDArray[np.float32]:
    """Embeddings of people: clusters on the sphere."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, dimensions))
    points = centres[rng.integers(clusters, size=count)] + 0.3 * rng.normal(size=(count, dimensions))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_exact_search_is_a_sort_of_all_inner_products(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", rows)
    embeddings, (query,) = unit(300), unit(1, seed=1)
    similar = embeddings.astype(np.float64) @ query
    hits = ExactIndex(embeddings).search(query, 20)
    assert hits.place.tolist() == np.argsort(-similar, kind="stable")[:20].tolist()
    assert hits.similarity == pytest.approx(similar[hits.place], abs=1e-6)


def test_equal_similarities_keep_their_order() -> None:
    embeddings = np.repeat(unit(3), 4, axis=0)
    hits = ExactIndex(embeddings).search(embeddings[4], 6)
    assert hits.place[:4].tolist() == [4, 5, 6, 7]


def test_fewer_embeddings_than_wanted_give_all() -> None:
    assert len(ExactIndex(unit(5)).search(unit(1)[0], 100).place) == 5
    assert len(ExactIndex(unit(0)).search(unit(1)[0], 100).place) == 0


def test_half_precision_and_memory_maps_are_searched_alike(tmp_path: Path) -> None:
    embeddings, (query,) = unit(200), unit(1, seed=1)
    np.save(tmp_path / "a.npy", embeddings.astype(np.float16))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    found, expected = ExactIndex(mapped).search(query, 10), ExactIndex(embeddings).search(query, 10)
    assert found.similarity == pytest.approx(expected.similarity, abs=2e-3)


def test_few_are_searched_exactly_without_faiss(tmp_path: Path) -> None:
    assert isinstance(open_index(unit(100), tmp_path), ExactIndex)
    assert not list(tmp_path.iterdir())


def test_faiss_that_is_not_installed_is_named_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="uv pip install faiss-cpu"):
        open_index(unit(10), tmp_path, "faiss")
    assert isinstance(open_index(unit(10), tmp_path, "auto"), ExactIndex)


@needs_faiss
def test_faiss_finds_what_it_says(tmp_path: Path) -> None:
    embeddings = unit(4000)
    index = open_index(embeddings, tmp_path, "faiss")
    assert isinstance(index, FaissIndex)
    exact, shares = ExactIndex(embeddings), []
    for query in unit(50, seed=5):
        found, expected = index.search(query, 50), exact.search(query, 50)
        shares.append(np.isin(expected.place, found.place).mean())
        assert found.similarity == pytest.approx(embeddings[found.place] @ query, abs=1e-6)
        assert (np.diff(found.similarity) <= 0).all()
    assert index.recall >= module.RECALL
    assert np.mean(shares) > module.RECALL - 0.03


@needs_faiss
def test_an_index_is_built_once_and_again_for_other_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    build: Any = module._build

    def counted(found: Any, faiss: Any) -> Any:
        built.append(len(found))
        return build(found, faiss)

    monkeypatch.setattr(module, "_build", counted)
    embeddings, (query,) = unit(2000), unit(1, seed=1)
    first = open_index(embeddings, tmp_path, "faiss").search(query, 10)
    again = open_index(embeddings, tmp_path, "faiss").search(query, 10)
    assert built == [2000]
    assert again.place.tolist() == first.place.tolist()
    open_index(unit(2000, seed=7), tmp_path, "faiss")
    assert built == [2000, 2000]
