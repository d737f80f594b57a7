"""The profiler of steps, and NaN gradients that are named."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from watchme.core.errors import TrainingError
from watchme.core.step_profiler import TRACE, StepProfiler, anomalies_detected


def multiply(times: int) -> None:
    for _ in range(times):
        torch.mm(torch.ones(64, 64), torch.ones(64, 64))


@pytest.mark.parametrize(("steps", "recorded"), [(20, 8), (3, 3), (1, 1)])
def test_recorded_steps_are_in_the_table_and_in_the_trace(steps: int, recorded: int, tmp_path: Path) -> None:
    profiler = StepProfiler(tmp_path, on_gpu=False)
    for number in profiler.over(range(steps), steps):
        multiply(3 if steps < 20 or 4 <= number < 12 else 50)  # allocation and warm-up come before
    table = profiler.table
    assert table is not None
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    expected = 3 * recorded if steps == 20 else 3 * steps
    assert rows["aten::mm"]["calls"] == expected
    assert 0 < rows["aten::mm"]["self_ms"] <= rows["aten::mm"]["total_ms"]
    assert [row[2] for row in table.rows] == sorted((row[2] for row in table.rows), reverse=True)
    assert sum(row[4] for row in table.rows) == pytest.approx(1, abs=0.01)
    with gzip.open(tmp_path / TRACE) as file:
        events = json.load(file)["traceEvents"]
    assert sum(event.get("name") == "aten::mm" for event in events) == expected


def test_only_the_first_epoch_is_recorded(tmp_path: Path) -> None:
    profiler = StepProfiler(tmp_path, on_gpu=False)
    assert list(profiler.over(range(3), 3)) == [0, 1, 2]
    first = profiler.table
    assert list(profiler.over(range(3), 3)) == [0, 1, 2]
    assert profiler.table is first


def test_an_epoch_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    profiler = StepProfiler(tmp_path, on_gpu=False)
    batches = profiler.over(range(3), 3)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert profiler.table is None
    assert not (tmp_path / TRACE).exists()


def test_the_operation_of_a_nan_gradient_is_named() -> None:
    zero = torch.zeros(1, requires_grad=True)
    with pytest.raises(TrainingError, match="the gradient of SqrtBackward0 is NaN"), anomalies_detected(True):
        (zero.sqrt() * 0).backward()  # type: ignore[no-untyped-call]
    assert not torch.is_anomaly_enabled()


def test_without_it_a_nan_gradient_is_one() -> None:
    zero = torch.zeros(1, requires_grad=True)
    with anomalies_detected(False):
        (zero.sqrt() * 0).backward()  # type: ignore[no-untyped-call]
    assert zero.grad is not None
    assert zero.grad.isnan().all()
