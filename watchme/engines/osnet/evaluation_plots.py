"""Plots and tables of a re-ID evaluation: ranked results, the CMC curve, a table of queries, features."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from watchme.core.interfaces import Embedding, Job, Picture, Table
from watchme.core.spacing import evenly
from watchme.engines.osnet.config import ReidEvaluation
from watchme.engines.osnet.data.crop_images import Gallery
from watchme.engines.osnet.embed_and_rank import Ranking
from watchme.engines.osnet.identity_results import camera_pairs, draw_map, hardest_first, identity_table
from watchme.metrics.distance import pairwise_distance
from watchme.metrics.ranking_plots import draw_cmc, draw_ranked_results

_RANKS = 50  # of the CMC curve
_MOST_HARDEST = 4


def plot_ranking(job: Job, ranking: Ranking, data: Gallery, split: str, config: ReidEvaluation) -> None:
    """Draw the results of one split into `<run>/evaluation/<split>` and pass them to the trackers.

    Args:
        job: The run.
        ranking: What was evaluated.
        data: The images it was evaluated on.
        split: e.g. test.
        config: How many queries are drawn (`visrank`), and with how many gallery images (`visrank_topk`); how many
            identities the t-SNE shows (`tsne`); whether features are kept (`save_features`).
    """
    folder = job.folder / "evaluation" / split
    query = data.query.crops
    result = ranking.result
    values = zip(query, result.average_precision, result.first_match_rank, strict=True)
    rows = [(crop.path.name, crop.pid, crop.cam + 1, float(ap), float(first)) for crop, ap, first in values]
    rows.sort(key=lambda row: math.inf if math.isnan(row[3]) else row[3])  # reports show the first of them
    columns = ("query", "identity", "camera", "average_precision", "first_match_rank")
    job.show(Table(f"{split}/per_query", columns, tuple(rows)))
    draw_cmc(result.cmc, folder / "cmc.png", title=f"{job.config.model.name} on {job.config.dataset.name}, {split}")
    job.show(Picture(f"{split}/cmc", folder / "cmc.png", "Cumulative matching characteristic"))
    shares = tuple((rank, float(share)) for rank, share in enumerate(result.cmc[:_RANKS], start=1))
    job.show(Table(f"{split}/cmc_curve", ("rank", "share"), shares, chart="cmc"))
    show_embedding(job, ranking, data, split)
    plot_ranked(job, ranking, data, split, config)
    _show_hardest(job, ranking, data, split, config)
    if config.save_features:
        save_features(ranking, data, folder / "features.npz")


def plot_ranked(
    job: Job, ranking: Ranking, data: Gallery, split: str, config: ReidEvaluation, epoch: int | None = None
) -> None:
    """Draw ranked results alone, in a folder of the epoch's own where one is given."""
    folder = job.folder / "evaluation" / split / ("" if epoch is None else f"epoch{epoch:04d}")
    numbers = evenly(len(data.query), config.visrank)
    for number, path in zip(numbers, _draw_ranked(ranking, data, numbers, folder / "ranked", config), strict=True):
        crop = data.query.crops[number]
        caption = f"identity {crop.pid}, camera {crop.cam + 1}: AP {ranking.result.average_precision[number]:.2f}"
        job.show(Picture(f"{split}/ranked", path, caption, epoch=epoch))


def show_embedding(job: Job, ranking: Ranking, data: Gallery, split: str) -> None:
    """Hand a part of the features to TensorBoard's projector: `tracker.embeddings` crops of as many identities as fit.

    Whole identities are taken, in the order of the queries, since a point alone says nothing.
    """
    tracker = job.config.tracker
    if not (tracker.tensorboard and tracker.embeddings):
        return
    crops = [*data.query.crops, *data.gallery.crops]
    by_identity: dict[int, list[int]] = {}
    for number, crop in enumerate(crops):
        by_identity.setdefault(crop.pid, []).append(number)
    chosen: list[int] = []
    for numbers in by_identity.values():
        if chosen and len(chosen) + len(numbers) > tracker.embeddings:
            break
        chosen += numbers[: tracker.embeddings]
    vectors = torch.cat([ranking.query, ranking.gallery])[chosen].numpy()
    rows = tuple(
        (crops[number].pid, crops[number].cam + 1, "query" if number < len(data.query) else "gallery")
        for number in chosen
    )
    images = tuple(crops[number].path for number in chosen)
    job.show(Embedding(f"{split}/embedding", vectors, ("identity", "camera", "part"), rows, images))


def save_features(ranking: Ranking, data: Gallery, path: Path) -> None:
    """Keep what was compared, for further analysis: `numpy.load(path)` reads it without running code.

    For each of query and gallery, in the same order: `<part>_features` (N, D) float32, `<part>_pids` and `<part>_cams`
    (N,) int64 (cameras counted from 1), `<part>_files` (N,) text.
    """
    arrays: dict[str, Any] = {}
    for part, features, images in (("query", ranking.query, data.query), ("gallery", ranking.gallery, data.gallery)):
        arrays[f"{part}_features"] = features.numpy()
        arrays[f"{part}_pids"] = np.array([crop.pid for crop in images.crops], np.int64)
        arrays[f"{part}_cams"] = np.array([crop.cam + 1 for crop in images.crops], np.int64)
        arrays[f"{part}_files"] = np.array([str(crop.path) for crop in images.crops])
    np.savez(path, **arrays)


def _show_hardest(job: Job, ranking: Ranking, data: Gallery, split: str, config: ReidEvaluation) -> None:
    """Tables of camera pairs and of the hardest identities, their worst queries, and the map of embeddings."""
    folder = job.folder / "evaluation" / split
    pairs = camera_pairs(ranking, data, split, config)
    if pairs is not None:
        job.show(pairs)
    hardest = hardest_first(ranking, data)
    table = identity_table(hardest, ranking, data, split, config)
    job.show(table)
    numbers = [queries[0] for queries in hardest[: min(config.visrank, _MOST_HARDEST)]]
    paths = _draw_ranked(ranking, data, numbers, folder / "hardest", config)
    for path, row in zip(paths, table.rows, strict=False):
        found = dict(zip(table.columns, row, strict=True))
        taken_for = f", taken for {found['taken_for']}" if found["taken_for"] else ""
        caption = f"identity {found['identity']}: mAP {found['map']:.2f} of {found['queries']} queries{taken_for}"
        job.show(Picture(f"{split}/hardest", path, f"{caption}; this one's AP {found['worst_ap']:.2f}"))
    if caption := draw_map(hardest, ranking, data, config, folder / "tsne.png"):
        job.show(Picture(f"{split}/tsne", folder / "tsne.png", caption))


def _draw_ranked(
    ranking: Ranking, data: Gallery, numbers: Sequence[int], folder: Path, config: ReidEvaluation
) -> list[Path]:
    """Draw queries with their nearest gallery images; the files, one a query."""
    if not numbers:
        return []
    features = ranking.query[torch.tensor(numbers)]
    drawn = [data.query.crops[number] for number in numbers]
    crops = data.gallery.crops
    return draw_ranked_results(
        pairwise_distance(features, ranking.gallery, config.distance),
        [crop.path for crop in drawn],
        [crop.path for crop in crops],
        [crop.pid for crop in drawn],
        [crop.pid for crop in crops],
        [crop.cam + 1 for crop in drawn],
        [crop.cam + 1 for crop in crops],
        folder,
        top_k=config.visrank_topk,
    )
