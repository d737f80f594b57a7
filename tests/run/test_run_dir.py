"""The manifest of a run's folder."""

import errno
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from watchme.core.errors import RunFolderError
from watchme.core.interfaces import Result
from watchme.run import run_dir, run_lock
from watchme.run.run_dir import RunFolder


def test_duration_and_start_count_from_the_command_not_from_the_first_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    times = iter(["at the start", "before", "at the end", "later"])
    monkeypatch.setattr(run_dir.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(run_dir, "_now", lambda: next(times))
    record = RunFolder(tmp_path / "run")
    clock[0] = 142.5
    record.open(OmegaConf.create({"train": {"seed": 0}}), [])  # an evaluation opens its folder when it has results
    record.close("finished", Result({}, 0.5))
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["timings"]["total_s"] == 42.5
    assert manifest["started"] == "at the start"


@pytest.mark.parametrize(
    ("name", "is_folder"), [("weights", False), (".hydra", False), ("tables", False), ("train.log", True)]
)
def test_a_name_that_is_taken_is_said_before_anything_is_written(name: str, is_folder: bool, tmp_path: Path) -> None:
    """The run trained an epoch, and ended at it."""
    taken = tmp_path / "run" / name
    taken.parent.mkdir()
    taken.mkdir() if is_folder else taken.touch()
    with pytest.raises(RunFolderError, match=rf"{name} is .*folder.* where the run .*; move it away."):
        RunFolder(tmp_path / "run")
    assert list(taken.parent.iterdir()) == [taken]


def test_a_folder_of_somebody_else_is_said_to_be_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on with a colleague's run ended in a traceback of its lock."""

    def denied(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(run_lock.os, "open", denied)
    with pytest.raises(RunFolderError, match=r"a b cannot be written: Permission denied.*\n    cp -r '.*/a b'"):
        RunFolder(tmp_path / "a b")
