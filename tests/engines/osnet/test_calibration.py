"""calibration.json of a training and of an evaluation: held-out people across cameras, by the best weights."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osnet.tiny import SMALL
from watchme.core.interfaces import Picture
from watchme.core.registry import load_model
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import Crop, read_market
from watchme.data.images import read_image
from watchme.engines.osnet.data.holdout import hold_out

Run = Callable[..., Any]
TINY = (*SMALL, "dataset=market1501", "train.epochs=1", "evaluation.visrank=0")


@pytest.fixture(scope="module")
def tiny(small_world: DemoWorld) -> tuple[str, ...]:
    return (*TINY, f"dataset.root={small_world.reid}")


@pytest.fixture(scope="module")
def trained(run_engine: Run, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = run_engine(tmp_path_factory.mktemp("calibrated"), *tiny, "dataset.val_identities=3")
    # What a run folder holds besides, for `load_model` to embed as the run did.
    (run.folder / "run.json").write_text("{}")
    config = {
        "model": {"name": "osnet_x0_25"},
        "dataset": {"height": 64, "width": 32},
        "augmentation": {"normalize": True},
        "evaluation": {"flip_test": False},
    }
    (run.folder / "config.yaml").write_text(json.dumps(config))
    return run


def calibration(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "calibration.json").read_text())
    return content


def similarities(one: Sequence[Crop], other: Sequence[Crop], weights: Path, *, same: bool) -> list[float]:
    """Of pairs from different cameras, embedded as mode=find does."""
    embedder: Any = load_model("osnet", weights, "cpu")
    first, second = (embedder.embed([np.asarray(read_image(crop.path)) for crop in part]) for part in (one, other))
    return [
        float(first[i] @ second[j])
        for i, a in enumerate(one)
        for j, b in enumerate(other)
        if a.cam != b.cam and (a.pid == b.pid) is same
    ]


def test_a_training_calibrates_on_the_held_out_people(trained: Any, small_world: DemoWorld) -> None:
    held = hold_out(read_market(small_world.reid).train, 3, 0)
    weights = trained.folder / "weights" / "best.pt"
    different = similarities(held.query, held.gallery, weights, same=False)
    found = calibration(trained.folder)
    assert found["split"] == "val"
    assert found["identities"] == 3
    assert found["non_mated_pairs"] == len(different)
    assert found["mated_pairs"] == len(similarities(held.query, held.gallery, weights, same=True))
    assert np.mean(np.array(different) >= found["threshold"] + 0.001) <= 0.01
    mean = np.average(np.linspace(-1, 1, 2000, endpoint=False) + 0.0005, weights=found["bins"]["non_mated"])
    assert mean == pytest.approx(np.mean(different), abs=1e-3)


def test_it_holds_the_means_of_each_camera_too(trained: Any, small_world: DemoWorld) -> None:
    held = hold_out(read_market(small_world.reid).train, 3, 0)
    embedder: Any = load_model("osnet", trained.folder / "weights" / "best.pt", "cpu")
    vectors = {crop: embedder.embed([np.asarray(read_image(crop.path))])[0] for crop in held.query + held.gallery}
    queried = {crop.pid for crop in held.query}
    groups: dict[tuple[int, int], list[Any]] = {}
    for crop in held.gallery:
        if crop.pid in queried:
            groups.setdefault((crop.pid, crop.cam), []).append(vectors[crop])
    means = {key: np.mean(each, axis=0) / np.linalg.norm(np.mean(each, axis=0)) for key, each in groups.items()}
    found = calibration(trained.folder)["means"]
    for name, same in (("mated", True), ("non_mated", False)):
        expected = [
            float(vectors[crop] @ mean)
            for crop in held.query
            for (pid, cam), mean in means.items()
            if cam != crop.cam and (pid == crop.pid) is same
        ]
        assert found[f"{name}_pairs"] == len(expected)
        average = np.average(np.linspace(-1, 1, 2000, endpoint=False) + 0.0005, weights=found["bins"][name])
        assert average == pytest.approx(np.mean(expected), abs=1e-3)


def test_an_evaluation_calibrates_on_the_test_people(
    trained: Any, run_engine: Run, tiny: tuple[str, ...], small_world: DemoWorld, tmp_path: Path
) -> None:
    weights = trained.folder / "weights" / "best.pt"
    again = run_engine(tmp_path, *tiny, "mode=evaluate", f"checkpoint={weights}")
    splits = read_market(small_world.reid)
    queried = {crop.pid for crop in splits.query}
    gallery = [crop for crop in splits.gallery if crop.pid in queried]
    found = calibration(again.folder)
    assert found["split"] == "test"
    assert found["non_mated_pairs"] == len(similarities(splits.query, gallery, weights, same=False))
    assert again.result.details["calibration"]["threshold"] == found["threshold"]
    assert "test/similarities" in [item.name for item in again.shown if isinstance(item, Picture)]


def test_without_held_out_people_it_is_said_and_the_test_split_serves(
    run_engine: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    run = run_engine(tmp_path, *tiny, "dataset.val_identities=0")
    assert calibration(run.folder)["split"] == "test"
    assert any("calibrated on the test split" in text for text in run.fallbacks)
