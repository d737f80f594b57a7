"""Atomic writes and forgiving readers of small files."""

from pathlib import Path

import pytest

from watchme.io.files import read_json, read_yaml, replace_text


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    replace_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{", b"a: [", b"\xff\xfe\x00"])
def test_what_cannot_be_read_is_empty(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert read_json(path) == {}
    assert read_yaml(path) == {}
