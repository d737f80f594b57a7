"""Which people and which pairs of cameras a re-ID model finds hard, and a map of its embeddings."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from watchme.core.figure import new_axes, save
from watchme.core.interfaces import Table
from watchme.core.spacing import evenly
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import ReidEvaluation
from watchme.engines.osnet.data.crop_images import Gallery
from watchme.engines.osnet.embed_and_rank import Ranking, ids_of
from watchme.metrics.distance import pairwise_distance
from watchme.metrics.retrieval import evaluate_features

# The square of cameras is evaluated pair by pair.
_MOST_CAMERAS = 20
_MOST_IDENTITIES = 50
_MOST_IMAGES = 24  # of an identity in the map
_FEWEST = 8  # images that a map is worth drawing of
# Below, of a model that has collapsed, scikit-learn's t-SNE divides by 0 and ends the process by SIGSEGV.
_LEAST_SPREAD = 1e-12
_MARKERS = "osD^vP*Xph<>"
_IDENTITY_COLUMNS = ("identity", "queries", "map", "rank1", "worst_query", "worst_ap", "taken_for")


def camera_pairs(ranking: Ranking, data: Gallery, split: str, config: ReidEvaluation) -> Table | None:
    """mAP and rank-1 of the queries of one camera in the gallery of another; None where there are too many cameras.

    Args:
        ranking: What was evaluated.
        data: The images it was evaluated on.
        split: e.g. test.
        config: Distance and protocol; without re-ranking.
    """
    query_pids, gallery_pids, query_cams, gallery_cams = (part.numpy() for part in ids_of(*_crops(data)))
    cameras = np.union1d(query_cams, gallery_cams).tolist()
    if not 1 < len(cameras) <= _MOST_CAMERAS:
        return None
    rows = []
    for one, other in itertools.permutations(cameras, 2):
        gallery = np.flatnonzero(gallery_cams == other)
        query = np.flatnonzero((query_cams == one) & np.isin(query_pids, gallery_pids[gallery]))
        if len(query):
            features = ranking.query[torch.from_numpy(query)], ranking.gallery[torch.from_numpy(gallery)]
            ids = query_pids[query], gallery_pids[gallery], query_cams[query], gallery_cams[gallery]
            found = evaluate_features(*features, *ids, distance=config.distance, max_rank=1)
            rows.append((one + 1, other + 1, found.num_valid_queries, found.map, found.rank(1)))
    return Table(f"{split}/camera_pairs", ("query_camera", "gallery_camera", "queries", "map", "rank1"), tuple(rows))


def hardest_first(ranking: Ranking, data: Gallery) -> list[list[int]]:
    """Numbers of the queries of each identity, the identity with the lowest mean AP first, and its lowest AP first.

    Queries without a match are left out, as in the metrics.
    """
    precision = ranking.result.average_precision
    queries: dict[int, list[int]] = {}
    for number in np.flatnonzero(~np.isnan(precision)).tolist():
        queries.setdefault(data.query.crops[number].pid, []).append(number)
    sorted_queries = (sorted(numbers, key=lambda number: precision[number]) for numbers in queries.values())
    return sorted(sorted_queries, key=lambda numbers: float(precision[numbers].mean()))


def identity_table(
    hardest: Sequence[Sequence[int]], ranking: Ranking, data: Gallery, split: str, config: ReidEvaluation
) -> Table:
    """The hardest identities: their mAP, their worst query, and who is ranked first in their place most often.

    Args:
        hardest: As `hardest_first` gives it.
        ranking: What was evaluated.
        data: The images it was evaluated on.
        split: e.g. test.
        config: Distance.
    """
    precision, first = ranking.result.average_precision, ranking.result.first_match_rank
    rows = []
    gallery = tuple(part.numpy() for part in ids_of(*_crops(data))[1::2])
    asked_for = {crop.pid for crop in data.query.crops}
    for numbers in map(list, hardest[:_MOST_IDENTITIES]):
        worst = data.query.crops[numbers[0]]
        wrong = (pid for pid in _ranked_first(numbers, ranking, data, gallery, config) if pid != worst.pid)
        named = Counter(str(pid) if pid in asked_for else "a distractor" for pid in wrong)
        taken_for = ", ".join(f"{name} ({count} of {len(numbers)})" for name, count in named.most_common(2))
        share = float((first[numbers] == 1).mean())
        mean, lowest = float(precision[numbers].mean()), float(precision[numbers[0]])
        rows.append((worst.pid, len(numbers), mean, share, worst.path.name, lowest, taken_for))
    return Table(f"{split}/hardest_identities", _IDENTITY_COLUMNS, tuple(rows))


def draw_map(
    hardest: Sequence[Sequence[int]], ranking: Ranking, data: Gallery, config: ReidEvaluation, path: Path
) -> str:
    """Embeddings of some identities in two dimensions, as a PNG, by t-SNE (van der Maaten and Hinton, JMLR 2008).

    The identities are chosen evenly from the hardest to the easiest.

    Args:
        hardest: As `hardest_first` gives it.
        ranking: What was evaluated.
        data: The images it was evaluated on.
        config: Distance, and how many identities (`tsne`).
        path: File to write; its folder is made if absent.

    Returns:
        A caption; empty where there are too few images, and no file.
    """
    people, features, crops = _sample(hardest, ranking, data, config.tsne)
    if len(people) < 2 or len(crops) < _FEWEST:
        return ""
    if np.ptp(features, axis=0).max() < _LEAST_SPREAD:
        return ""
    # Only here, since it takes a second to import, and most commands draw nothing.
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(crops) - 1) / 3)
    options: dict[str, Any] = {"perplexity": perplexity, "metric": config.distance, "init": "pca", "random_state": 0}
    options["max_iter"] = 500  # places some hundred points as well as the usual 1000 do, in half the time
    places = TSNE(n_components=2, **options).fit_transform(features)
    _draw_places(places, crops, people, path)
    return (
        f"t-SNE of the embeddings of {len(people)} identities, from the hardest to the easiest: a colour and number "
        "each, a marker a camera. Mixed groups are confused; distances between far groups mean nothing"
    )


def _sample(
    hardest: Sequence[Sequence[int]], ranking: Ranking, data: Gallery, count: int
) -> tuple[list[int], Any, list[Crop]]:
    people = [data.query.crops[hardest[place][0]].pid for place in evenly(len(hardest), count)]
    query_pids, gallery_pids, _, _ = (part.numpy() for part in ids_of(*_crops(data)))
    features, crops = [], []
    for pid in people:
        own = [*np.flatnonzero(query_pids == pid)], [*np.flatnonzero(gallery_pids == pid)]
        vectors = torch.cat([ranking.query[own[0]], ranking.gallery[own[1]]])[:_MOST_IMAGES]
        features.append(vectors.numpy())
        images = [*(data.query.crops[number] for number in own[0]), *(data.gallery.crops[number] for number in own[1])]
        crops += images[:_MOST_IMAGES]
    return people, np.concatenate(features) if features else np.zeros((0, 1)), crops


def _ranked_first(
    numbers: Sequence[int], ranking: Ranking, data: Gallery, gallery: tuple[Any, ...], config: ReidEvaluation
) -> list[int]:
    """Identity of the first gallery image of each query, after what the protocol leaves out."""
    pids, cams = gallery
    distances = pairwise_distance(ranking.query[torch.tensor(numbers)], ranking.gallery, config.distance).numpy()
    found = []
    for row, number in zip(distances, numbers, strict=True):
        query = data.query.crops[number]
        row[(pids == query.pid) & (cams == query.cam)] = np.inf
        found.append(int(pids[row.argmin()]))
    return found


def _crops(data: Gallery) -> tuple[Sequence[Crop], Sequence[Crop]]:
    return data.query.crops, data.gallery.crops


def _draw_places(places: Any, crops: Sequence[Crop], people: Sequence[int], path: Path) -> None:
    from matplotlib import colormaps

    figure, axes = new_axes(7.2, 5.6, framed=True)
    cameras = sorted({crop.cam for crop in crops})
    colours = {pid: colormaps["tab20"](number % 20) for number, pid in enumerate(people)}
    for number, camera in enumerate(cameras):
        here = [index for index, crop in enumerate(crops) if crop.cam == camera]
        marker, label = _MARKERS[number % len(_MARKERS)], f"camera {camera + 1}"
        shades = [colours[crops[index].pid] for index in here]
        axes.scatter(
            places[here, 0], places[here, 1], s=34, c=shades, marker=marker, linewidths=0.4, edgecolors="white"
        )
        axes.scatter([], [], s=34, c="#555555", marker=marker, label=label)
    for pid in people:
        own = places[[index for index, crop in enumerate(crops) if crop.pid == pid]]
        x, y = np.median(own, axis=0)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colours[pid], "alpha": 0.8}
        axes.text(x, y, str(pid), ha="center", va="center", fontsize=8, bbox=box)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=8, loc="best")
    save(figure, path)
