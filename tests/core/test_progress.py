"""Progress: a bar of 80 columns on a terminal, a line every half minute elsewhere, log lines above the bar."""

import io
import logging
import sys
from pathlib import Path

import pytest

from watchme.core import progress
from watchme.core.progress import Progress
from watchme.run.log_file import run_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Let sys.stdout be a terminal, of which the bar is drawn at every step."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(progress, "REFRESH", 0)
    return stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which each look takes twenty seconds."""
    seconds = iter(range(0, 10_000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))


def test_a_bar_of_80_columns_with_the_time_left_that_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    parts = Progress("Frames", 4, "frame", note=lambda: "people 12345 " * 9).over("abcd")
    assert list(parts) == ["a", "b", "c", "d"]
    lines = stream.getvalue().split("\r")
    assert max(map(len, lines)) <= 80
    assert any("left, people 12345" in line for line in lines)
    assert "\n" not in stream.getvalue()
    assert lines[-1] == ""
    assert lines[-2].strip() == ""


def test_of_an_unknown_total_the_count_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with Progress("Frames", None, "frame") as bar:
        bar.update(64)
        shown = stream.getvalue().split("\r")[-1]
    assert shown.startswith("Frames 64 frames  00:00")


def test_a_file_gets_a_line_every_half_minute(clock: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Progress("Frames", 100, "frame", done=50, note=lambda: "people 7") as bar:
        for _ in range(4):
            bar.update(10)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["Frames  frame 70/100  people 7  01:00 left", "Frames  frame 90/100  people 7  00:20 left"]


def test_a_file_gets_the_count_of_an_unknown_total(clock: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Progress("Frames", None, "frame") as bar:
        bar.update(1200)
        bar.update(1200)
    assert [record.getMessage() for record in caplog.records] == ["Frames  2,400 frames"]


def test_log_lines_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = terminal(monkeypatch)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(stream)])
    with run_log(tmp_path / "train.log"), Progress("Frames", 4, "frame") as bar:
        bar.update()
        root.warning("a line of the log")
        bar.update()
    before, after = stream.getvalue().split("a line of the log\n")
    assert before.endswith("\r"), "the bar was cleared"
    assert "Frames" in after
