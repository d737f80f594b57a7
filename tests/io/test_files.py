"""Atomic writes, locks, and forgiving readers of small files."""

import json
import math
import multiprocessing
import multiprocessing.synchronize
from pathlib import Path

import numpy as np
import pytest

from watchme.io.files import (
    locked,
    read_json,
    read_yaml,
    remove_temporaries,
    replace_json,
    replace_text,
    whole_folder,
)


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


def test_json_holds_no_nan_and_plain_numbers(tmp_path: Path) -> None:
    replace_json(tmp_path / "a.json", {1: [math.nan, math.inf, np.float32(0.5)], "path": Path("x"), "yes": True})
    assert json.loads((tmp_path / "a.json").read_text()) == {"1": [None, None, 0.5], "path": "x", "yes": True}


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".run.json.17.tmp", ".env", "run.json", "data.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".handoff.17.tmp" / "src").mkdir(parents=True)
    remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".env", "run.json", "data.tmp"}


def _hold(folder: Path, held: "multiprocessing.synchronize.Event") -> None:
    with locked(folder):
        held.set()
        multiprocessing.Event().wait(60)


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held))
    holder.start()
    assert held.wait(60)
    with pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path, wait=False):
        assert not list(tmp_path.iterdir())


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "folder"
    with pytest.raises(FileNotFoundError), whole_folder(folder, "done.json") as temporary:
        (temporary / "no" / "half.txt").touch()
    assert list(folder.parent.iterdir()) == []
    for content, kept in (("first", "first"), ("second", "first")):
        with whole_folder(folder, "done.json") as temporary:
            assert not folder.exists() or content == "second"
            (temporary / "done.json").write_text(content)
        assert (folder / "done.json").read_text() == kept
    (folder / "done.json").unlink()
    with whole_folder(folder, "done.json") as temporary:
        (temporary / "done.json").write_text("third")
    assert (folder / "done.json").read_text() == "third"
    assert list(folder.parent.iterdir()) == [folder]
