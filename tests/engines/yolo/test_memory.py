"""Out of memory, emulated: one message with numbers and the keys that help; the batch that was used is recorded."""

from pathlib import Path
from typing import Any

import pytest
import torch

from watchme.core.errors import ConfigError, TrainingError
from watchme.engines.yolo.out_of_memory import training_error
from yolo.conftest import Tiny
from yolo.world import Recorder, train

TEXT = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB"


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which batches of more than four images do not fit."""
    from watchme.engines.yolo.trainer import WatchmeTrainer

    original = WatchmeTrainer.preprocess_batch

    def preprocess_batch(self: Any, batch: dict[str, Any]) -> Any:
        if len(batch["img"]) > 4:
            raise torch.OutOfMemoryError(TEXT)
        return original(self, batch)

    monkeypatch.setattr(WatchmeTrainer, "preprocess_batch", preprocess_batch)


@pytest.mark.usefixtures("small_gpu")
def test_the_batch_that_ultralytics_halved_is_announced_and_recorded(tiny: Tiny, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    train(tiny("train.epochs=1", "train.batch_size=16"), recorder)
    assert recorder.manifest["batch_size"] == 4
    assert recorder.fallbacks == [
        "out of memory with a batch of 16: ultralytics trains on with 8",
        "out of memory with a batch of 8: ultralytics trains on with 4",
    ]


@pytest.mark.usefixtures("small_gpu")
def test_training_that_does_not_fit_names_the_keys(tiny: Tiny, tmp_path: Path) -> None:
    """ultralytics halves three times at most."""
    with pytest.raises(
        TrainingError, match=r"(?s)batch of 6 at 64 px: CUDA out of memory.*train\.batch_size"
    ) as caught:
        train(tiny("train.epochs=1", "train.batch_size=48"), Recorder(tmp_path / "run"))
    assert "dataset.image_size" in str(caught.value)


def test_a_batch_that_no_gpu_can_be_asked_for_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    """ultralytics warns in its own log, and trains with 16: "16 images fit the GPU's memory", said the run."""
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"(?s)train\.batch_size = -1.*is\s+on\s+cpu"):
        train(tiny("train.epochs=1", "train.device=auto", "train.batch_size=-1"), Recorder(run))


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_what_the_devices_refuse_is_not_advised(gpus: int) -> None:
    """0 stands for the CPU and MPS."""
    text = str(training_error(RuntimeError(TEXT), batch_size=8, gpus=gpus, image_size=64))
    assert ("train.batch_size=-1" in text) == (gpus == 1)
    assert ("train.precision=fp16" in text) == (gpus > 0)


def test_an_evaluation_that_does_not_fit_names_its_key(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchme.engines.yolo import validator

    def update_metrics(self: Any, preds: Any, batch: Any) -> None:
        raise torch.OutOfMemoryError(TEXT)

    monkeypatch.setattr(validator._Validator, "update_metrics", update_metrics)
    with pytest.raises(TrainingError, match=r"(?s)batch of 16, twice train\.batch_size,.*evaluation\.batch_size=8"):
        train(tiny("train.epochs=1"), Recorder(tmp_path / "run"))


def test_a_last_batch_of_one_image_is_explained_in_keys_of_the_config(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("train.epochs=1", "dataset.image_size=32", "train.batch_size=47")
    with pytest.raises(TrainingError, match=r"one image.*train\.batch_size=47.*dataset\.image_size=64"):
        train(config, Recorder(tmp_path / "run"))


def test_a_loss_that_is_not_finite_is_not_blamed_on_a_precision_that_is_not_used(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lower optimizer\.lr$"):
        train(tiny("train.epochs=1", "loss.box=1e38"), Recorder(tmp_path / "run"))
