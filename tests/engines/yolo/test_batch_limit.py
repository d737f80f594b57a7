"""`train.limit_batches`, `train.profile` and `train.detect_anomaly` of YOLO."""

from pathlib import Path
from typing import Any

import pytest

from watchme.core.errors import TrainingError
from watchme.core.interfaces import Table
from watchme.engines.yolo.batch_limit import limit_images
from yolo.conftest import Tiny
from yolo.world import Recorder, Trained, train

LIMIT = ("train.epochs=2", "train.batch_size=4", "train.nominal_batch_size=4", "train.limit_batches=2")


@pytest.fixture(scope="module")
def limited(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[int]]:
    """A training with a limit, and the batches of its epochs."""
    from watchme.engines.yolo.trainer import WatchmeTrainer

    totals: list[int] = []
    progress = WatchmeTrainer._batch_progress

    def counted(self: Any, batches: Any, total: int) -> Any:
        totals.append(total)
        return progress(self, batches, total)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchmeTrainer, "_batch_progress", counted)
        config = tiny(*LIMIT, "train.profile=true", "evaluation.batch_size=3")
        return train(config, Recorder(tmp_path_factory.mktemp("limited") / "run")), totals


def tables(trained: Trained) -> dict[str, Table]:
    return trained.recorder.tables()


def test_epochs_and_evaluations_are_cut(limited: tuple[Trained, list[int]], drawn: Path) -> None:
    trained, totals = limited
    assert totals == [2, 2]
    # 6 images of a split; every fourth is empty, the others have one person.
    for split in ("val", "test"):
        assert sum(tables(trained)[f"{split}/counts"].rows[0][1:3]) in (4, 5)
        assert tables(trained)[f"{split}/per_class"].rows[0][2] in (4, 5)


def test_the_slowest_operators_are_shown(limited: tuple[Trained, list[int]]) -> None:
    trained, _ = limited
    rows = {row[0]: row for row in tables(trained)["profile/operators"].rows}
    assert rows["aten::convolution_backward"][1] % 2 == 0  # of both steps of the first epoch
    assert (trained.folder / "profile" / "trace.json.gz").is_file()


class Dataset:
    """What ultralytics' dataset has of 10 images."""

    def __init__(self, rect: bool) -> None:
        self.rect, self.ni = rect, 10
        self.im_files = [f"{number}.jpg" for number in range(10)]
        self.labels = [{"im_file": name} for name in self.im_files]
        self.buffer: list[int] = []


def test_images_are_spread_over_the_dataset_unless_their_order_has_a_meaning() -> None:
    spread = limit_images(Dataset(rect=False), 2, 2)
    assert spread.im_files == ["0.jpg", "2.jpg", "5.jpg", "7.jpg"]
    assert [label["im_file"] for label in spread.labels] == spread.im_files
    assert spread.ni == 4
    assert limit_images(Dataset(rect=True), 2, 2).im_files == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert limit_images(Dataset(rect=False), 2, None).ni == 10


def test_an_anomaly_is_named(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.utils.loss import v8DetectionLoss

    whole = v8DetectionLoss.__call__

    def broken(self: Any, *arguments: Any) -> Any:
        loss, items = whole(self, *arguments)
        return loss + (loss * 0).sqrt() * 0, items

    monkeypatch.setattr(v8DetectionLoss, "__call__", broken)
    with pytest.raises(TrainingError, match=r"train\.detect_anomaly: the gradient of SqrtBackward0 is NaN"):
        train(tiny(*LIMIT, "train.detect_anomaly=true"), Recorder(tmp_path / "run"))
