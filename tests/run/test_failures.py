"""A full disk and a killed loader process, in one line with the way on; the run's status is written nevertheless."""

import errno
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from watchme.config.schema import RunConfig
from watchme.run import run_dir
from watchme.run.failures import explain, is_full_disk
from watchme.run.summary import relative

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
