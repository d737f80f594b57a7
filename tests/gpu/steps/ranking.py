"""Ranking and re-ranking on the CPU and on the GPU, and torchreid's ranking, at the size of Market-1501."""

import contextlib
import io
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gpu.step import Step
from watchme.metrics.reranking import reranked_chunks
from watchme.metrics.retrieval import evaluate_features

_MARKET = (3368, 15913)
# torchreid's time is proportional to the queries: a part is timed.
_THEIR_QUERIES = 100


def run(step: Step) -> None:
    """Seconds of each."""
    size = (50, 400) if step.setting.tiny else _MARKET
    devices = ["cpu", *(["cuda"] if step.setting.cuda else [])]
    query, gallery, ids = _problem(*size)
    pairs = {device: (query.to(device), gallery.to(device)) for device in devices}
    found: dict[str, Any] = {}
    for device, pair in pairs.items():
        with step.part(f"ranking on {device}"):
            evaluate_features(pair[0][:64], pair[1], ids[0][:64], ids[1], ids[2][:64], ids[3])
            result, found[f"{device}_s"] = _timed(lambda pair=pair: evaluate_features(*pair, *ids))  # type: ignore[misc]
            found[f"{device}_map"] = result.map
            step.fact("ranking", found)
    if "cuda_map" in found:
        same = abs(found["cuda_map"] - found["cpu_map"])
        step.check("ranking on the GPU gives the CPU's mAP", same < 1e-6, same)
    with step.part("torchreid's ranking"):
        found["torchreid_s"] = _torchreid_seconds(query, gallery, ids)
        step.fact("ranking", found)
    again: dict[str, Any] = {}
    chunks: dict[str, Any] = {}
    for device, pair in reversed(pairs.items()):
        with step.part(f"re-ranking on {device}"):
            chunks[device], again[f"{device}_s"] = _timed(lambda pair=pair: list(reranked_chunks(*pair)))  # type: ignore[misc]
            step.fact("rerank", again)
    if len(chunks) == 2:
        one, other = (torch.cat([chunk.cpu() for chunk in chunks[device]]) for device in devices)
        step.fact("rerank_difference", float((one - other).abs().max()))
    step.fact("peak_memory_gb", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2))


def _problem(queries: int, gallery: int, people: int = 751, size: int = 512) -> tuple[Any, Any, list[Any]]:
    """Features (people as overlapping clouds), identities and cameras."""
    generator = torch.Generator().manual_seed(0)
    random = np.random.default_rng(0)
    ids = [random.integers(0, top, n) for top in (people, 6) for n in (queries, gallery)]
    centres = torch.randn(people, size, generator=generator)
    pair = [
        centres[torch.from_numpy(pids)].add_(torch.randn(len(pids), size, generator=generator), alpha=4)
        for pids in ids[:2]
    ]
    return pair[0], pair[1], ids


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, round(time.perf_counter() - start, 4)


def _torchreid_seconds(query: Any, gallery: Any, ids: list[Any]) -> float:
    """For all queries, from a part of them."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from torchreid.reid.metrics.distance import compute_distance_matrix
        from torchreid.reid.metrics.rank import evaluate_rank

        part = min(_THEIR_QUERIES, len(query))

        def work() -> None:
            distances = compute_distance_matrix(query[:part], gallery, "euclidean").numpy()
            evaluate_rank(distances, ids[0][:part], ids[1], ids[2][:part], ids[3], use_cython=False)

        return round(_timed(work)[1] * len(query) / part, 2)
