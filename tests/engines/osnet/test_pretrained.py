"""OSNet started from a file of the model zoo by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from watchme.data.demo import DemoWorld
from watchme.engines.osnet.model import CLASSIFIER, ReidNet
from watchme.weights.model_zoo import by_key

Run = Callable[..., Any]
SMALL = ("dataset.height=64", "dataset.width=32", "dataset.val_identities=3", "train.batch_size=8")
QUICK = ("train.num_instances=2", "train.workers=0", "evaluation.visrank=0")


def on_mirror(key: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a mirror has the weights of a key; the cache is empty."""
    weights = by_key(key)
    assert weights is not None
    (folder / "mirror").mkdir()
    monkeypatch.setenv("WATCHME_WEIGHTS", str(folder / "mirror"))
    monkeypatch.setenv("WATCHME_CACHE", str(folder / "cache"))
    return folder / "mirror" / weights.file


def test_a_name_of_the_model_zoo_starts_a_run(
    run_engine: Run, small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every layer but the classifier frozen, the run ends with the tensors of the file."""
    torch.manual_seed(3)
    published = ReidNet("osnet_x0_25", 751).backbone.state_dict()
    torch.save({f"module.{name}": value for name, value in published.items()}, tmp_path / "published.pth")
    (tmp_path / "published.pth").rename(on_mirror("osnet_x0_25_market1501", tmp_path, monkeypatch))
    tops = sorted({name.split(".")[0] for name in published} - {"classifier"})
    done = run_engine(
        tmp_path,
        *("model=osnet_x0_25", "dataset=market1501", f"dataset.root={small_world.reid}", *SMALL, *QUICK),
        *("model.weights=market1501", "train.epochs=1", f"model.freeze=[{','.join(f'{top}.*' for top in tops)}]"),
    )
    assert done.manifest["initial_tensors"]["missing"] == []
    trained = torch.load(done.result.weights["best"], weights_only=True)["state_dict"]
    for name, value in published.items():
        if not name.startswith(CLASSIFIER):
            assert torch.equal(trained[name], value), name


@pytest.mark.real
@pytest.mark.slow
def test_fine_tuning_from_msmt17_gains_and_beats_random_weights(
    run_engine: Run, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has the sha256 that the table pins. Before training it makes 0.698, see README."""
    on_mirror("osnet_x0_25_msmt17", tmp_path, monkeypatch).symlink_to(real_data / "weights" / "osnet_x0_25_msmt17.pth")
    data = ("model=osnet_x0_25", "dataset=market1501", f"dataset.root={real_data}/market1501_mini")
    scores = {}
    for weights in ("msmt17", "null"):
        (tmp_path / weights).mkdir()
        options = (f"model.weights={weights}", "train.epochs=10", "train.workers=0", "dataset.cache=ram")
        scores[weights] = run_engine(tmp_path / weights, *data, *options).result.metrics["test/map"]
    assert scores["msmt17"] > 0.698
    assert scores["msmt17"] > scores["null"] + 0.4
