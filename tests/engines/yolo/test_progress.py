"""Progress within an epoch: readable at 80 columns, and in a file."""

import io
import logging
import re
import sys

import pytest

from watchme.core import progress
from watchme.engines.yolo.progress import BatchProgress

LOSSES = {"box_loss": 1.23456, "cls_loss": 0.5, "dfl_loss": 12.5}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(total: int = 5) -> list[int]:
    bar = BatchProgress(enumerate("abcde"), total, title="epoch 3/100", losses=lambda: LOSSES)
    seen = []
    for number, _ in bar:
        seen.append(number)
        bar.set_description("%11s" * 7 % tuple("x" * 7))
    return seen


def test_a_terminal_gets_one_line_of_80_columns_with_names_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(progress, "REFRESH", 0)
    assert run() == [0, 1, 2, 3, 4]
    lines = [line for line in terminal.getvalue().split("\r") if "box" in line]
    assert "\n" not in terminal.getvalue()
    assert max(map(len, lines)) <= 80
    assert re.search(r"epoch 3/100 +\d+%\|.*\| \d\d:\d\d left, box 1.23  cls 0.5  dfl 12.5", lines[-1])


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = iter([0.0, 10.0, 31.0, 40.0, 50.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert run() == [0, 1, 2, 3, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 3/100  batch 2/5  box 1.23  cls 0.5  dfl 12.5  00:46 left",
        "epoch 3/100  batch 5/5  box 1.23  cls 0.5  dfl 12.5  00:00 left",
    ]
