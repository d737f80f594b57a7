"""Made-up retrieval problems, and their scores from loops too plain to be wrong."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from watchme.metrics.ranks import Identities
from watchme.metrics.retrieval import RetrievalResult, evaluate_blocks

Ids = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """Features, and identities in the order of the functions' arguments."""

    query: Tensor
    gallery: Tensor
    ids: Ids


def make_case(
    seed: int, queries: int = 40, gallery: int = 150, *, people: int = 12, cams: int = 3, grid: float = 0.0
) -> Case:
    """People as clouds of features; a grid above 0 rounds features to it, which makes exact ties."""
    generator = torch.Generator().manual_seed(seed)
    random = np.random.default_rng(seed)
    ids = tuple(random.integers(0, top, size) for top in (people, cams) for size in (queries, gallery))
    centres = torch.randn(people, 16, generator=generator)
    query, clutter = (
        centres[torch.from_numpy(pids)] + 1.5 * torch.randn(len(pids), 16, generator=generator) for pids in ids[:2]
    )
    if grid:
        query, clutter = (query / grid).round() * grid, (clutter / grid).round() * grid
    return Case(query, clutter, (ids[0], ids[1], ids[2], ids[3]))


def evaluate_distances(distances: Tensor, *ids: Any, rows: int = 10**6, **options: Any) -> RetrievalResult:
    """The scores of a whole distance matrix, handed over in blocks of some rows."""
    settings: dict[str, Any] = {"max_rank": 50, "metric": "market1501", "seed": 0, **options}
    query_pids, gallery_pids, query_cams, gallery_cams = ids
    identities = Identities.of(query_pids, gallery_pids, query_cams, gallery_cams, *distances.shape)
    blocks = (distances[start : start + rows] for start in range(0, len(distances), rows))
    return evaluate_blocks(blocks, identities, **settings)


class NaiveScores(NamedTuple):
    """Per query: average precision, inverse negative penalty, rank of the first match."""

    precision: list[float]
    penalty: list[float]
    first: list[float]


def naive_scores(distances: Tensor, ids: Ids, kind: Literal["stable"] | None = None) -> NaiveScores:
    """One query and one gallery image at a time; equal distances in the order of numpy.argsort of a kind."""
    scores = NaiveScores([], [], [])
    query_pids, gallery_pids, query_cams, gallery_cams = (part.tolist() for part in ids)
    for row, pid, cam in zip(distances.numpy(), query_pids, query_cams, strict=True):
        rank, places = 0, []
        for index in np.argsort(row, kind=kind).tolist():
            if gallery_pids[index] == pid and gallery_cams[index] == cam:
                continue
            rank += 1
            if gallery_pids[index] == pid:
                places.append(rank)
        if not places:
            for values in scores:
                values.append(float("nan"))
            continue
        scores.precision.append(sum((i + 1) / place for i, place in enumerate(places)) / len(places))
        scores.penalty.append(len(places) / places[-1])
        scores.first.append(places[0])
    return scores
