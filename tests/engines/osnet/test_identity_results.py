"""Camera pairs, hardest identities and the t-SNE of a made-up retrieval, against torchreid's own functions."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from watchme.core.interfaces import Embedding, Picture, Table
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.crop_images import Gallery, Images
from watchme.engines.osnet.embed_and_rank import Ranking, compare
from watchme.engines.osnet.evaluation_plots import plot_ranking
from watchme.engines.osnet.identity_results import camera_pairs, draw_map, hardest_first, identity_table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its Cython ranking is not built
    from torchreid.reid.metrics import compute_distance_matrix, evaluate_rank

OPTIONS = ("model=osnet_x0_25", "dataset=demo_reid")


@dataclass
class Made:
    """A retrieval of ten people by three cameras, with distractors, and a query that has no match."""

    ranking: Ranking
    data: Gallery
    config: Config

    def torchreid(self, query: Any, gallery: Any) -> tuple[float, float]:
        """mAP and rank-1 of some queries in part of the gallery, by torchreid."""
        metric = self.config.evaluation.distance
        distances = compute_distance_matrix(self.ranking.query[query], self.ranking.gallery[gallery], metric).numpy()
        crops = [self.data.query.crops[n] for n in query], [self.data.gallery.crops[n] for n in gallery]
        pids = [np.array([crop.pid for crop in part]) for part in crops]
        cams = [np.array([crop.cam for crop in part]) for part in crops]
        cmc, mean_ap = evaluate_rank(distances, *pids, *cams, max_rank=1, use_cython=False)
        return float(mean_ap), float(cmc[0])


@pytest.fixture(scope="module", params=["euclidean", "cosine"])
def made(request: pytest.FixtureRequest, typed_config: Callable[..., Config]) -> Made:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(14, 16))

    def part(name: str, count: int, people: range) -> tuple[Images, torch.Tensor]:
        crops, features = [], []
        for pid in people:
            for cam in range(3):
                for number in range(count):
                    crops.append(Crop(Path(f"{name}{pid}c{cam}n{number}.jpg"), pid, cam))
                    features.append(centres[pid] + rng.normal(scale=0.3 + 0.15 * pid + 0.2 * cam, size=16))
        return Images(crops, (64, 32), "none"), torch.tensor(np.array(features), dtype=torch.float32)

    query, query_features = part("q", 2, range(1, 12))
    gallery, gallery_features = part("g", 3, range(11))  # 0 is a distractor; 11 has no match
    config = typed_config(*OPTIONS, f"evaluation.distance={request.param}")
    data = Gallery(query, gallery)
    return Made(compare(query_features, gallery_features, data, "test", config.evaluation), data, config)


def as_dicts(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_camera_pairs_are_torchreids_metrics_of_the_parts(made: Made) -> None:
    table = camera_pairs(made.ranking, made.data, "test", made.config.evaluation)
    assert table is not None
    rows = as_dicts(table)
    assert [(row["query_camera"], row["gallery_camera"]) for row in rows] == [
        (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2),
    ]  # fmt: skip
    for row in rows:
        query = [n for n, crop in enumerate(made.data.query.crops) if crop.cam + 1 == row["query_camera"]]
        gallery = [n for n, crop in enumerate(made.data.gallery.crops) if crop.cam + 1 == row["gallery_camera"]]
        mean_ap, rank1 = made.torchreid(query, gallery)
        assert row["map"] == pytest.approx(mean_ap, abs=1e-6)
        assert row["rank1"] == pytest.approx(rank1, abs=1e-6)
        assert row["queries"] == 20, "the person without a match does not count"
    assert len({round(row["map"], 3) for row in rows}) > 3, "a comparison of ones would prove nothing"


def test_identities_come_hardest_first_with_torchreids_map(made: Made) -> None:
    hardest = hardest_first(made.ranking, made.data)
    rows = as_dicts(identity_table(hardest, made.ranking, made.data, "test", made.config.evaluation))
    assert [row["map"] for row in rows] == sorted(row["map"] for row in rows)
    assert {row["identity"] for row in rows} == set(range(1, 11))
    everything = range(len(made.data.gallery))
    for row in rows:
        query = [n for n, crop in enumerate(made.data.query.crops) if crop.pid == row["identity"]]
        mean_ap, rank1 = made.torchreid(query, everything)
        assert (row["map"], row["rank1"]) == pytest.approx((mean_ap, rank1), abs=1e-6)
        single = {made.data.query.crops[n].path.name: made.torchreid([n], everything)[0] for n in query}
        assert row["worst_ap"] == pytest.approx(min(single.values()), abs=1e-6)
        assert single[row["worst_query"]] == pytest.approx(row["worst_ap"], abs=1e-6)


def test_who_is_ranked_first_instead_is_counted(made: Made) -> None:
    hardest = hardest_first(made.ranking, made.data)
    rows = as_dicts(identity_table(hardest, made.ranking, made.data, "test", made.config.evaluation))
    metric = made.config.evaluation.distance
    distances = compute_distance_matrix(made.ranking.query, made.ranking.gallery, metric).numpy()
    for row in rows:
        wrong: Counter[int] = Counter()
        for query, line in zip(made.data.query.crops, distances, strict=True):
            if query.pid == row["identity"]:
                for place in line.argsort(kind="stable"):
                    found = made.data.gallery.crops[place]
                    if found.pid != query.pid or found.cam != query.cam:
                        wrong[found.pid] += found.pid != query.pid
                        break
        most = max(wrong.values())
        named = {"a distractor" if pid == 0 else str(pid) for pid in wrong}
        assert row["taken_for"].startswith(tuple(f"{name} ({most} of 6)" for name in named)) == (most > 0)
    assert any("a distractor" in row["taken_for"] for row in rows)


def test_map_is_drawn_of_identities_from_hard_to_easy(made: Made, tmp_path: Path) -> None:
    hardest = hardest_first(made.ranking, made.data)
    caption = draw_map(hardest, made.ranking, made.data, made.config.evaluation, tmp_path / "deep" / "tsne.png")
    assert "10 identities" in caption
    with Image.open(tmp_path / "deep" / "tsne.png") as image:
        assert image.width > 500
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    assert draw_map([], made.ranking, made.data, made.config.evaluation, tmp_path / "none.png") == ""
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("spread", [0.0, 1e-25])
def test_embeddings_that_are_all_alike_have_no_map(spread: float, made: Made, tmp_path: Path) -> None:
    """In a process of its own, which scikit-learn ended by SIGSEGV, without a word."""
    config = made.config.evaluation
    query, gallery = made.ranking.query, made.ranking.gallery
    ranking = compare(query * spread, gallery * spread, made.data, "test", config)
    child = os.fork()
    if child == 0:
        caption = draw_map(hardest_first(ranking, made.data), ranking, made.data, config, tmp_path / "map.png")
        os._exit(0 if caption == "" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_oldest_scikit_learn_has_the_options_of_the_map() -> None:
    """`max_iter` was called n_iter before 1.5."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'"scikit-learn>=(\d+)\.(\d+),', text)
    assert found is not None
    assert (int(found[1]), int(found[2])) >= (1, 5)


def test_one_camera_has_no_pairs_and_a_retrieval_without_matches_no_rows(made: Made) -> None:
    images = Images([Crop(Path("a.jpg"), 1, 0), Crop(Path("b.jpg"), 2, 0)], (64, 32), "none")
    data = Gallery(images, images)
    ranking = compare(torch.eye(2), torch.eye(2), data, "test", made.config.evaluation)
    assert camera_pairs(ranking, data, "test", made.config.evaluation) is None
    assert identity_table(hardest_first(ranking, data), ranking, data, "test", made.config.evaluation).rows == ()


def test_an_evaluation_shows_them(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import watchme.metrics.ranking_plots as plots
    from watchme.core.interfaces import Job

    monkeypatch.setattr(plots, "read_image", lambda path: Image.new("RGB", (32, 64)))
    shown: list[Picture | Table | Embedding] = []
    job = Job(made.config, tmp_path, show=shown.append)
    plot_ranking(job, made.ranking, made.data, "test", made.config.evaluation)
    names = Counter(item.name for item in shown if not isinstance(item, Embedding))
    assert names["test/camera_pairs"] == names["test/hardest_identities"] == names["test/tsne"] == 1
    hardest = [item for item in shown if isinstance(item, Picture) and item.name == "test/hardest"]
    tables = {item.name: as_dicts(item) for item in shown if isinstance(item, Table)}
    expected = [f"identity {row['identity']}: mAP {row['map']:.2f}" for row in tables["test/hardest_identities"][:4]]
    assert [picture.caption[: len(text)] for picture, text in zip(hardest, expected, strict=True)] == expected
    precisions = [row["average_precision"] for row in tables["test/per_query"]]
    defined = [value for value in precisions if value == value]
    assert precisions[: len(defined)] == sorted(defined), "worst first, and those without a match last"
