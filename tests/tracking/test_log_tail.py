"""A growing log, read piece by piece."""

from pathlib import Path

from watchme.tracking.log_tail import LogTail


def test_whole_lines_are_read_once_and_the_rest_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    tail = LogTail(path)
    assert tail.read() == ""
    path.write_text("first\nsec")
    assert tail.read() == "first\n"
    assert tail.read() == ""
    with path.open("a") as file:
        file.write("ond\nthird")
    assert tail.read() == "second\n"
    assert tail.read(rest=True) == "third"
    assert tail.read(rest=True) == ""


def test_reading_goes_on_where_an_earlier_attempt_ended(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("first\nsecond\n")
    assert LogTail(path, len("first\n")).read() == "second\n"
    assert LogTail(path, 1000).read() == "first\nsecond\n", "another file"
