"""A full disk and a killed loader process, in one line with the way on; the run's status is written nevertheless."""

import contextlib
import errno
import json
import logging
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from osnet.whole_runs import TINY
from watchme.config.schema import RunConfig
from watchme.config.validation import validate
from watchme.core.errors import DataError, RunFolderError
from watchme.core.formatting import relative
from watchme.core.interfaces import EpochEvent, Job, Result
from watchme.data.demo import DemoWorld
from watchme.report import run_page
from watchme.run import run_dir, runner
from watchme.run.failures import explain, is_full_disk, say_how_to_go_on
from watchme.run.log_file import RunLogFile, run_log, start_log_file
from watchme.run.runner import Interrupted, run

FULL = OSError(errno.ENOSPC, "No space left on device", "/data/run/weights/last.pt")


@pytest.fixture(scope="module")
def config(typed_config: Callable[..., RunConfig]) -> RunConfig:
    return typed_config("dataset=demo_detection")


def raised_from(cause: BaseException) -> BaseException:
    """What torch's writer raises when the file that it writes to has no room."""
    error = RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file data/0")
    error.__context__ = cause
    return error


@pytest.mark.parametrize("error", [FULL, raised_from(FULL), OSError(errno.EDQUOT, "Disk quota exceeded")])
def test_a_full_disk_names_the_folder_and_the_way_on(error: BaseException, config: RunConfig, tmp_path: Path) -> None:
    assert is_full_disk(error)
    explained = explain(error, config, tmp_path)
    assert explained is not None
    assert str(explained).startswith("the disk is full: ")
    assert f"{tmp_path} has " in str(explained)
    assert str(explained).endswith(f"python train.py train.resume={shlex.quote(relative(tmp_path))}")
    assert "\n" not in str(explained)


def test_a_full_cache_is_not_taken_for_the_runs_folder(
    config: RunConfig, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's disk had 68 GiB left, and was said to be full."""
    monkeypatch.setenv("WATCHME_CACHE", str(small_disk))
    unnamed, named = (OSError(errno.ENOSPC, "", *file) for file in ((), (str(tmp_path / "a"),)))
    for error, full in ((unnamed, small_disk), (named, tmp_path)):
        assert f", {full} has " in str(explain(error, config, tmp_path))


def test_a_killed_loader_process_says_what_to_change(config: RunConfig, tmp_path: Path) -> None:
    killed = RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed. ")
    explained = explain(killed, config, tmp_path)
    assert explained is not None
    assert "is killed by signal: Killed: most likely memory ran out" in str(explained)
    assert "train.workers=2" in str(explained)
    assert explain(RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"), config, tmp_path) is not None
    assert explain(RuntimeError("shapes do not match"), config, tmp_path) is None


def test_the_manifest_is_written_over_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_dir.RunFolder(tmp_path / "run", resume=False)
    (tmp_path / "run").mkdir(exist_ok=True)
    folder.manifest = {"status": "running", "note": "x" * 500}
    folder.save()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_dir, "replace_json", refuse)
        folder.manifest = {"status": "failed"}
        folder.save()
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == {"status": "failed"}


def test_a_log_on_a_full_disk_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def write(self, *_: object) -> None:
            raise FULL

        flush = close = write

    monkeypatch.setattr(RunLogFile, "_open", lambda handler: Full())
    with run_log(tmp_path / "train.log"):
        start_log_file()
        for number in range(20):
            logging.getLogger("watchme").warning("line %d", number)
    told = capsys.readouterr().err
    assert "Logging error" not in told
    assert told.count("train.log cannot be written: No space left on device") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("left", [1_100_000, 1_350_000])
def test_a_run_on_a_full_disk_has_failed(
    left: int,
    small_disk: Path,
    small_world: DemoWorld,
    composed_config: Callable[..., DictConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With no room for the checkpoints: one line that names the folder, and the status is no longer `running`."""
    folder = small_disk / "run"
    (small_disk / "filled").write_bytes(os.urandom(left))
    composed = composed_config(*TINY, f"dataset.root={small_world.reid}", "train.epochs=1")
    with pytest.raises(RunFolderError) as ended, run_log(folder / "train.log"):
        run(validate(composed), composed, folder, [])
    assert "\n" not in str(ended.value)
    assert str(ended.value).startswith("the disk is full: ")
    assert f"{folder} has " in str(ended.value)
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert "Logging error" not in capsys.readouterr().err


def test_a_training_with_a_whole_epoch_says_how_to_go_on(config: RunConfig, tmp_path: Path) -> None:
    error = DataError("crop.jpg is broken")
    say_how_to_go_on(error, config, tmp_path)
    assert str(error) == "crop.jpg is broken", "nothing to go on from"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "last.pt").touch()
    for _ in range(2):  # once is enough
        say_how_to_go_on(error, config, tmp_path)
    way_on = f"python train.py train.resume={shlex.quote(relative(tmp_path))}"
    assert str(error) == f"crop.jpg is broken\n    The last whole epoch is saved. Go on with:\n    {way_on}"


def test_a_signal_that_an_engine_swallows_ends_the_run_at_its_next_epoch(
    run_whole: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(job: Job) -> Result:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(10)
        job.emit(EpochEvent(1, 2, {"train/loss": 1.0}))
        return Result({}, 0.0)

    monkeypatch.setattr(runner, "load_mode", lambda engine, mode: work)
    with pytest.raises(Interrupted):
        run_whole(tmp_path, "model=osnet_x0_25")


def test_an_interrupt_while_the_report_is_written_leaves_a_finished_run_and_says_how_to_get_it(
    run_whole: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "load_mode", lambda engine, mode: lambda job: Result({"val/map": 0.5}, 0.5))
    monkeypatch.setattr(run_page, "write_report", interrupt)
    with pytest.raises(Interrupted, match=f"the run is finished. Its report:\n    python -m watchme.report {tmp_path}"):
        run_whole(tmp_path, "model=osnet_x0_25")
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"
