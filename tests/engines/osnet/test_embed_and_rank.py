"""Each option of evaluation: numbers from the features that a run keeps, by torchreid's own functions."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from osnet.tiny import TINY
from watchme.core.errors import TrainingError, WatchmeError
from watchme.core.interfaces import Picture
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import read_market
from watchme.engines.osnet import train
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.augmentation import to_network
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.loader import EvalSet
from watchme.engines.osnet.embed_and_rank import Embedder
from watchme.engines.osnet.model import ReidNet
from watchme.metrics import reranking

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its Cython ranking is not built
    from torchreid.reid.metrics import compute_distance_matrix, evaluate_rank
    from torchreid.reid.utils.rerank import re_ranking

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def evaluate(
    run_engine: Run, small_world: DemoWorld, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[dict[str, float], dict[str, Any], Any]]:
    """`evaluate(*overrides)`: metrics, features and the run of the same untrained weights each time."""

    def run(*overrides: str) -> tuple[dict[str, float], dict[str, Any], Any]:
        folder = tmp_path_factory.mktemp("evaluated")
        options = (*TINY, f"dataset.root={small_world.reid}", "evaluation.save_features=true")
        done = run_engine(folder, *options, "mode=evaluate", "checkpoint=random", *overrides)
        (path,) = folder.glob("evaluation/**/features.npz")
        return dict(done.result.metrics), dict(np.load(path)), done

    return run


def ids(kept: dict[str, Any]) -> list[Any]:
    return [kept[f"{part}_{what}"] for what in ("pids", "cams") for part in ("query", "gallery")]


def fewest(kept: dict[str, Any]) -> int:
    """Gallery images that every query has; torchreid cannot report ranks beyond."""
    query, gallery = (
        list(zip(kept[f"{part}_pids"], kept[f"{part}_cams"], strict=True)) for part in ("query", "gallery")
    )
    return min(sum(other != each for other in gallery) for each in query)


def distances(kept: dict[str, Any], metric: str = "euclidean", pair: str = "query gallery") -> Any:
    left, right = (torch.from_numpy(kept[f"{part}_features"]) for part in pair.split())
    return compute_distance_matrix(left, right, metric).numpy()


def test_kept_features_tell_whose_they_are(evaluate: Callable[..., Any], small_world: DemoWorld) -> None:
    _, kept, _ = evaluate()
    splits = read_market(small_world.reid)
    for part, crops in (("query", splits.query), ("gallery", splits.gallery)):
        assert kept[f"{part}_features"].shape == (len(crops), 512)
        assert kept[f"{part}_features"].dtype == np.float32
        assert [Path(name).name for name in kept[f"{part}_files"]] == [crop.path.name for crop in crops]
        assert kept[f"{part}_pids"].tolist() == [crop.pid for crop in crops]
        assert kept[f"{part}_cams"].tolist() == [crop.cam + 1 for crop in crops]


def test_features_are_kept_only_when_asked_for(evaluate: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        evaluate("evaluation.save_features=false")


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("normalize", ["true", "false"])
def test_distance_and_normalisation_are_torchreids(distance: str, normalize: str, evaluate: Callable[..., Any]) -> None:
    metrics, kept, _ = evaluate(f"evaluation.distance={distance}", f"evaluation.normalize={normalize}")
    norms = np.linalg.norm(kept["query_features"], axis=1)
    assert np.allclose(norms, 1, atol=1e-5) == (normalize == "true")
    cmc, mean_ap = evaluate_rank(distances(kept, distance), *ids(kept), max_rank=fewest(kept), use_cython=False)
    assert metrics["test/map"] == pytest.approx(mean_ap, abs=1e-6)
    assert metrics["test/rank1"] == pytest.approx(cmc[0], abs=1e-6)
    assert metrics["test/rank5"] == pytest.approx(cmc[4], abs=1e-6)


def test_ranks_are_those_asked_for(evaluate: Callable[..., Any]) -> None:
    metrics, kept, _ = evaluate("evaluation.ranks=[2,7]")
    assert {name for name in metrics if "rank" in name} == {"test/rank2", "test/rank7"}
    cmc, _ = evaluate_rank(distances(kept), *ids(kept), max_rank=fewest(kept), use_cython=False)
    assert [metrics["test/rank2"], metrics["test/rank7"]] == pytest.approx([cmc[1], cmc[6]], abs=1e-6)


def test_reranking_is_torchreids(evaluate: Callable[..., Any]) -> None:
    metrics, kept, _ = evaluate("evaluation.rerank=true")
    again = re_ranking(*(distances(kept, pair=pair) for pair in ("query gallery", "query query", "gallery gallery")))
    _, mean_ap = evaluate_rank(again, *ids(kept), max_rank=fewest(kept), use_cython=False)
    assert metrics["test/map_reranked"] == pytest.approx(mean_ap, abs=1e-4)
    assert metrics["test/map_reranked"] != metrics["test/map"]


@pytest.mark.parametrize("mode", [("mode=evaluate", "checkpoint=random"), ("train.epochs=1",)])
def test_memory_for_reranking_is_asked_for_before_all_else(
    mode: tuple[str, ...], run_engine: Run, small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embedded(*_: object, **options: object) -> None:
        pytest.fail("an image was embedded")

    monkeypatch.setattr(reranking, "available_memory", lambda: 1000)
    monkeypatch.setattr(Embedder, "batches", embedded)
    monkeypatch.setattr(train, "_build_model", embedded)
    options = (*TINY, f"dataset.root={small_world.reid}", "evaluation.rerank=true")
    with pytest.raises(WatchmeError, match=r"re-ranking \d+ images takes .* set evaluation.rerank=false"):
        run_engine(tmp_path, *options, *mode)


def test_cuhk03_metric_is_of_single_gallery_shots(evaluate: Callable[..., Any]) -> None:
    """torchreid draws one image of each identity at random, ten times a query: equal but for the draw."""
    metrics, kept, _ = evaluate("evaluation.metric=cuhk03", "evaluation.ranks=[1,2]")
    np.random.seed(0)
    cmc, _ = evaluate_rank(distances(kept), *ids(kept), max_rank=2, use_metric_cuhk03=True, use_cython=False)
    plain, _, _ = evaluate("evaluation.ranks=[1,2]")
    assert [metrics["test/rank1"], metrics["test/rank2"]] == pytest.approx([cmc[0], cmc[1]], abs=0.1)
    assert metrics["test/rank1"] != plain["test/rank1"]


def test_batch_size_does_not_change_features(evaluate: Callable[..., Any]) -> None:
    (_, one, _), (_, other, _) = evaluate("evaluation.batch_size=100"), evaluate("evaluation.batch_size=7")
    assert np.allclose(one["gallery_features"], other["gallery_features"], atol=1e-5)


def test_a_cpu_embeds_few_images_at_once(
    small_world: DemoWorld, typed_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they need stays in its cache; loaded they are in larger batches."""
    sizes: list[int] = []
    embed = ReidNet.embed

    def noted(self: ReidNet, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(ReidNet, "embed", noted)
    images = Images(list(read_market(small_world.reid).train)[:19], (64, 32), "none")
    config = typed_config(*TINY, "evaluation.batch_size=12", f"dataset.root={small_world.reid}")
    assert len(Embedder(config, torch.device("cpu")).embed(ReidNet("osnet_x0_25", 5), images)) == 19
    assert sizes == [8, 4, 7]


def test_flip_test_averages_an_image_and_its_mirror_image(
    small_world: DemoWorld, typed_config: Callable[..., Config]
) -> None:
    model = ReidNet("osnet_x0_25", 5).eval()
    images = Images(list(read_market(small_world.reid).query)[:6], (64, 32), "none")
    pixels = to_network(EvalSet(images).__getitems__(list(range(6))).images)
    with torch.no_grad():
        plain, mirrored = model.embed(pixels), model.embed(pixels.flip(3))
    for flip, expected in ((False, plain), (True, (plain + mirrored) / 2)):
        config = typed_config(*TINY, f"evaluation.flip_test={flip}", f"dataset.root={small_world.reid}")
        ours = Embedder(config, torch.device("cpu")).embed(model, images)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, mirrored)


def test_metrics_do_not_depend_on_the_precision_of_training(
    evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluation is in fp32 whatever a model was trained in, also where bf16 is fast; bf16 has to be asked for."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    exact, kept, _ = evaluate("train.precision=fp32")
    same, kept_too, done = evaluate("train.precision=bf16")
    assert same == exact
    assert np.array_equal(kept["gallery_features"], kept_too["gallery_features"])
    assert done.manifest["device"]["evaluation_precision"] == "fp32"
    _, rough, _ = evaluate("evaluation.precision=bf16")
    assert not np.array_equal(kept["gallery_features"], rough["gallery_features"])


def test_curve_and_ranked_results_are_drawn(evaluate: Callable[..., Any]) -> None:
    _, _, done = evaluate("evaluation.visrank=3", "evaluation.visrank_topk=4")
    pictures = {item.name: item for item in done.shown if isinstance(item, Picture)}
    with Image.open(pictures["test/cmc"].path) as curve:
        assert curve.format == "PNG"
    ranked = sorted(done.folder.glob("evaluation/**/ranked/*.png"))
    assert len(ranked) == 3
    _, _, wider = evaluate("evaluation.visrank=3", "evaluation.visrank_topk=8")
    sizes = []
    for folder in (done.folder, wider.folder):
        with Image.open(next(folder.glob("evaluation/**/ranked/*.png"))) as picture:
            sizes.append(picture.width)
    assert sizes[0] < sizes[1]


def test_validation_is_drawn_while_training(run_engine: Run, small_world: DemoWorld, tmp_path: Path) -> None:
    done = run_engine(
        tmp_path,
        *TINY,
        f"dataset.root={small_world.reid}",
        "train.batch_size=8",
        "train.num_instances=2",
        "train.epochs=2",
        "train.eval_every=2",
        "evaluation.visrank=2",
        "evaluation.visrank_every=2",
    )
    drawn = [item for item in done.shown if isinstance(item, Picture) and item.name == "val/ranked"]
    assert [item.epoch for item in drawn] == [0, 0, 2, 2]
    assert all(item.path.is_file() and f"epoch{item.epoch:04d}" in str(item.path) for item in drawn)


def test_a_full_gpu_halves_the_batch_that_nobody_asked_for(
    typed_config: Callable[..., Config], small_world: DemoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results do not depend on it; a size of the user's own is refused instead."""
    files = sorted((small_world.reid / "query").glob("*.jpg"))
    crops = read_market(small_world.reid).query
    images = Images(crops, (64, 32), "none")
    torch.manual_seed(0)
    model = ReidNet("osnet_x0_25", 5)
    options = (*TINY, f"dataset.root={small_world.reid}")
    expected = Embedder(typed_config(*options), torch.device("cpu")).embed(model, images)
    embed, sizes = ReidNet.embed, []

    def full(self: ReidNet, batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return embed(self, batch)

    monkeypatch.setattr(ReidNet, "embed", full)
    monkeypatch.setattr("watchme.engines.osnet.embed_and_rank._LEAST_BATCH", 2)
    said: list[str] = []
    embedder = Embedder(typed_config(*options), torch.device("cpu"), said.append)
    found = embedder.embed(model, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(found) == len(files)
    assert max(sizes[-2:]) <= 4
    assert said[0] == "out of memory with evaluation.batch_size=100: 50 from here on"
    assert embedder.batch_size == 3
    asked = Embedder(typed_config(*options, "evaluation.batch_size=8"), torch.device("cpu"), said.append)
    with pytest.raises(TrainingError, match=r"lower evaluation\.batch_size=8"):
        asked.embed(model, images)
