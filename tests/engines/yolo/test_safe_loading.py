"""A .pt file of somebody else: none of its code runs unless model.trust=true says so."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from watchme.core.errors import CheckpointError
from watchme.engines.yolo import isolation
from yolo.conftest import Tiny
from yolo.world import Recorder, train


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


class Custom(nn.Module):
    """A layer that is neither of ultralytics nor of torch."""


@pytest.fixture(autouse=True)
def restricted() -> None:
    isolation.allow_code_in_files(False)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def evaluate(tiny: Tiny, file: Path, folder: Path) -> None:
    from watchme.engines.yolo.evaluate import evaluate as run

    run(Recorder(folder).job(tiny("mode=evaluate", f"checkpoint={file}")))


def search(tiny: Tiny, file: Path, folder: Path) -> None:
    from watchme.engines.yolo.inference import load

    load(file, "cpu")


def start(tiny: Tiny, file: Path, folder: Path) -> None:
    train(tiny(f"model.weights={file}", "train.epochs=1"), Recorder(folder))


def resume(tiny: Tiny, file: Path, folder: Path) -> None:
    (folder / "weights").mkdir()
    file.rename(folder / "weights" / "last.pt")
    train(tiny(f"train.resume={folder}", "train.epochs=1"), Recorder(folder))


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("use", [start, resume, evaluate, search])
def test_a_malicious_pickle_does_not_run(
    use: Callable[[Tiny, Path, Path], None], new_format: bool, tiny: Tiny, tmp_path: Path, mark: Path
) -> None:
    file, folder = tmp_path / "theirs.pt", tmp_path / "run"
    folder.mkdir()
    torch.save({"model": Malicious(mark)}, file, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=r"\.mkdir, which is neither of ultralytics nor of torch"):
        use(tiny, file, folder)
    assert not mark.exists()


def test_a_custom_class_is_named_and_loads_where_it_is_trusted(tmp_path: Path) -> None:
    from ultralytics import YOLO

    from watchme.engines.yolo.initial_weights import load

    model = YOLO("yolo11n.yaml").model
    model.extra = Custom()
    torch.save({"model": model, "train_args": {}}, tmp_path / "custom.pt")
    with pytest.raises(CheckpointError, match=r"needs [\w.]*test_safe_loading\.Custom.*model\.trust=true"):
        load(tmp_path / "custom.pt")
    isolation.allow_code_in_files(True)
    assert isinstance(load(tmp_path / "custom.pt")[0].extra, Custom)


def test_trust_of_the_config_reaches_the_loading(tiny: Tiny, tmp_path: Path, mark: Path) -> None:
    torch.save({"model": Malicious(mark)}, tmp_path / "theirs.pt")
    config = tiny(f"model.weights={tmp_path / 'theirs.pt'}", "model.trust=true", "train.epochs=1")
    with pytest.raises(CheckpointError):
        train(config, Recorder(tmp_path / "run"))
    assert mark.exists(), "trusted files are unpickled"
