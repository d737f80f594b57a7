"""`train.limit_batches`, `train.profile` and `train.detect_anomaly` of OSNet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from osnet import tiny
from watchme.core.errors import TrainingError
from watchme.core.interfaces import Table
from watchme.data.demo import DemoWorld
from watchme.engines.osnet import losses
from watchme.engines.osnet.trainer import Trainer

Make = Callable[..., Trainer]
TINY = (*tiny.TINY, "train.epochs=1", "evaluation.batch_size=4")


def images_of(trainer: Trainer, epoch: int) -> list[list[int]]:
    trainer.batches.set_epoch(epoch)
    return [[draw.image for draw in batch] for batch in trainer.batches]


@pytest.mark.parametrize("sampler", ["random", "identity", "domain"])
def test_every_epoch_has_the_first_batches_of_the_first(sampler: str, make_trainer: Make) -> None:
    whole = make_trainer(f"train.sampler={sampler}")
    limited = make_trainer(f"train.sampler={sampler}", "train.limit_batches=2")
    assert images_of(limited, 1) == images_of(limited, 2) == images_of(whole, 1)[:2]
    assert len(limited.batches) == 2
    assert len(images_of(make_trainer("train.limit_batches=0.5"), 1)) == len(images_of(make_trainer(), 1)) // 2


def test_an_evaluation_has_the_first_queries_and_their_people(
    run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path
) -> None:
    done = run_engine(
        tmp_path, *TINY, f"dataset.root={small_world.reid}", "train.limit_batches=2", "train.profile=true"
    )
    tables = {item.name: item for item in done.shown if isinstance(item, Table)}
    queries = tables["test/per_query"]
    files = [row[queries.columns.index("query")] for row in queries.rows]
    assert sorted(files) == sorted(path.name for path in (small_world.reid / "query").glob("*.jpg"))[:8]
    assert done.result.metrics["test/map"] > 0
    operators = tables["profile/operators"]
    convolutions = next(row for row in operators.rows if row[0] == "aten::convolution_backward")
    assert convolutions[1] % 2 == 0  # of both steps
    assert (tmp_path / "profile" / "trace.json.gz").is_file()


def test_an_anomaly_is_named(
    run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = losses.ReidCriterion.forward

    def broken(self: Any, *arguments: Any) -> Any:
        parts = whole(self, *arguments)
        return parts._replace(loss=parts.loss + torch.sqrt(0 * parts.loss) * 0)

    monkeypatch.setattr(losses.ReidCriterion, "forward", broken)
    overrides = (*TINY, f"dataset.root={small_world.reid}", "train.limit_batches=1", "dataset.val_identities=0")
    with pytest.raises(TrainingError, match=r"train\.detect_anomaly: the gradient of SqrtBackward0 is NaN"):
        run_engine(tmp_path, *overrides, "train.detect_anomaly=true")
