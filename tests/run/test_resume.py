"""Resume, as every engine has it: a refused command changes nothing, and every run can go on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchme.core.errors import RunFolderError
from watchme.report.run_page import write_report
from watchme.report.run_reader import read_run
from watchme.run.run_dir import RunFolder

TrainPy = Callable[..., "subprocess.CompletedProcess[str]"]


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def content(folder: Path) -> dict[str, bytes]:
    """Bytes of every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def epochs(folder: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def interrupted(train_py: TrainPy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    done = train_py("model=constant", "model.interrupt_at=3", f"hydra.run.dir={folder}")
    assert done.returncode == 130, done.stderr
    return folder


@pytest.fixture(scope="module")
def finished(train_py: TrainPy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train_py("model=constant", "train.epochs=3", f"hydra.run.dir={folder}").returncode == 0
    return folder


@pytest.mark.parametrize("refused", ["model.refuse=true", "train.epochs=99", "hydra.run.dir=elsewhere", "train.x=1"])
def test_a_refused_resume_changes_no_byte(train_py: TrainPy, interrupted: Path, refused: str) -> None:
    before = content(interrupted)
    done = train_py(f"train.resume={interrupted}", refused)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert content(interrupted) == before


def test_a_refused_start_leaves_no_folder(train_py: TrainPy, tmp_path: Path) -> None:
    assert train_py("model=constant", "model.refuse=true", f"hydra.run.dir={tmp_path / 'run'}").returncode == 1
    assert not (tmp_path / "run").exists()


def test_a_finished_run_says_so_and_is_not_touched(train_py: TrainPy, finished: Path) -> None:
    before = content(finished)
    done = train_py(f"train.resume={finished}")
    assert done.returncode == 0, done.stderr
    assert "has finished: 3 epochs, best val/map 0.5" in done.stdout
    assert "train.epochs=N with N above 3" in done.stdout
    assert content(finished) == before


@pytest.mark.parametrize("damage", ["types", "cut"])
def test_a_finished_run_whose_summary_is_damaged_says_so(
    train_py: TrainPy, finished: Path, tmp_path: Path, damage: str
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    if damage == "types":
        spoil(folder / "summary.json")
    else:
        (folder / "summary.json").write_bytes((folder / "summary.json").read_bytes()[:40])
    before = content(folder)
    done = train_py(f"train.resume={folder}")
    assert done.returncode == 0, done.stderr
    assert "has finished: summary.json is damaged" in done.stdout
    assert content(folder) == before


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_folder_that_lacks_a_file_is_named(train_py: TrainPy, finished: Path, tmp_path: Path, name: str) -> None:
    """And not a folder that a run without train.resume would have got."""
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / name).unlink()
    (folder / name).mkdir()
    done = train_py(f"train.resume={folder}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"train.resume={folder}: {folder} is no run that could go on: it has no {name}.")
    evaluated = train_py("mode=evaluate", f"checkpoint={folder}/weights/last.pt")
    assert evaluated.returncode == 1
    assert f"{folder} has no {name}, which says what the weights need" in evaluated.stderr


def test_a_folder_in_a_files_place_is_named_before_anything_changes(
    train_py: TrainPy, interrupted: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(interrupted, tmp_path / "run")
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    before = content(folder)
    done = train_py(f"train.resume={folder}", "model.interrupt_at=null")
    assert done.returncode == 1
    assert f"{folder / 'metrics.jsonl'} is a folder where the run writes a file; move it away." in done.stderr
    assert content(folder) == before


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_a_report_is_drawn_of_what_is_not_damaged(finished: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    spoil(folder / name)
    shutil.rmtree(folder / "tables", ignore_errors=True)
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    assert "constant" in write_report(folder).read_text()


def test_a_finished_run_trains_on_with_more_epochs(train_py: TrainPy, tmp_path: Path) -> None:
    assert train_py("model=constant", "train.epochs=2", f"hydra.run.dir={tmp_path}").returncode == 0
    done = train_py(f"train.resume={tmp_path}", "train.epochs=4")
    assert done.returncode == 0, done.stderr
    assert "train.epochs was 2 and is 4: the linear schedule" in done.stdout
    assert epochs(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize("again", [(), ("train.resume={folder}",)])
def test_a_run_killed_before_its_first_checkpoint_starts_again(
    train_py: TrainPy, tmp_path: Path, again: tuple[str, ...]
) -> None:
    command = ("model=constant", "train.epochs=3", f"hydra.run.dir={tmp_path}")
    assert train_py(*command, "model.kill_at=1").returncode == 9
    assert epochs(tmp_path) == [1]
    done = train_py(*([part.format(folder=tmp_path) for part in again] or command), "model.kill_at=null")
    assert done.returncode == 0, done.stderr
    assert epochs(tmp_path) == [1, 2, 3]
    manifest = load(tmp_path / "run.json")
    assert manifest["status"] == "finished"
    assert manifest["started_again"][0]["status_before"] == "running"


def test_auto_starts_goes_on_and_ends_with_one_command(train_py: TrainPy, tmp_path: Path) -> None:
    """What a requeued job of Slurm needs."""
    command = ("model=constant", "train.epochs=4", f"hydra.run.dir={tmp_path}/run", "train.resume=auto")
    assert train_py(*command, "model.kill_at=3").returncode == 9
    assert train_py(*command).returncode == 0
    assert epochs(tmp_path / "run") == [1, 2, 3, 4]
    before = content(tmp_path / "run")
    done = train_py(*command)
    assert done.returncode == 0
    assert "has finished" in done.stdout
    assert content(tmp_path / "run") == before
    refused = train_py("model=constant", "train.resume=auto")
    assert refused.returncode == 2
    assert "hydra.run.dir=<folder>" in refused.stderr


def spoil(path: Path) -> None:
    """Give every value of a JSON file another type."""
    path.write_text(
        json.dumps({key: 7 if isinstance(value, (dict, list, str)) else [value] for key, value in load(path).items()})
    )


def _damage(folder: Path, how: str) -> None:
    if how == "empty manifest":
        (folder / "run.json").write_bytes(b"")
    elif how == "no .hydra":
        for path in (folder / ".hydra").iterdir():
            path.unlink()
        (folder / ".hydra").rmdir()
    elif how == "broken hydra.yaml":
        (folder / ".hydra" / "hydra.yaml").write_text("hydra: [")
        manifest = load(folder / "run.json")
        del manifest["choices"]
        (folder / "run.json").write_text(json.dumps(manifest))
    elif how == "cut metrics":
        text = (folder / "metrics.jsonl").read_bytes()
        (folder / "metrics.jsonl").write_bytes(text[:-9])
    elif how == "bad byte in metrics":
        first, *rest = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_bytes(b"".join([first, b"\xff\x00{\n", *rest]))
    elif how == "wrong types":
        spoil(folder / "run.json")
    else:
        (folder / ".run.json.17.tmp").write_text("half")


@pytest.mark.parametrize(
    "how",
    [
        *("empty manifest", "no .hydra", "broken hydra.yaml", "cut metrics", "bad byte in metrics", "temporary"),
        "wrong types",
    ],
)
def test_a_damaged_run_goes_on(train_py: TrainPy, interrupted: Path, tmp_path: Path, how: str) -> None:
    folder = shutil.copytree(interrupted, tmp_path / "run")
    _damage(folder, how)
    done = train_py(f"train.resume={folder}", "model.interrupt_at=null")
    assert done.returncode == 0, done.stderr
    assert epochs(folder)[-3:] == [4, 5, 6]
    manifest = load(folder / "run.json")
    assert manifest["status"] == "finished"
    assert how in ("empty manifest", "wrong types") or "model=constant" in manifest["overrides"]
    assert not list(folder.glob(".*.tmp"))


def test_a_limit_is_announced_recorded_and_not_handed_on(train_py: TrainPy, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = train_py("model=constant", "train.limit_batches=2", "train.epochs=2", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    assert "the metrics can be compared with nothing" in done.stdout
    assert "python train.py model=constant train.epochs=2  # the whole training" in done.stdout
    assert load(folder / "run.json")["limit_batches"] == 2
    limited = read_run(folder)
    assert limited.comparable[2] == "limited-run"
    evaluated = train_py(
        "mode=evaluate", f"checkpoint={folder}/weights/last.pt", f"hydra.run.dir={tmp_path / 'evaluation'}"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert "limit_batches: null" in (tmp_path / "evaluation" / "config.yaml").read_text()
    resumed = train_py(f"train.resume={folder}", "train.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    assert "limit_batches: 2" in (folder / "config.yaml").read_text()


def test_a_broken_config_is_named(train_py: TrainPy, interrupted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(interrupted, tmp_path / "run")
    (folder / "config.yaml").write_text("model: [")
    done = train_py(f"train.resume={folder}")
    assert done.returncode == 1
    assert f"{folder / 'config.yaml'} is damaged" in done.stderr


HOLD = """
import sys, time
from pathlib import Path
from watchme.run.run_dir import RunFolder
folder = RunFolder(Path(sys.argv[1]), resume=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_never_share_a_run(finished: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(finished)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    before = content(finished)
    with pytest.raises(RunFolderError, match=f"process {holder.pid} on "):
        RunFolder(finished, resume=True)
    assert content(finished) == before
    holder.kill()
    holder.communicate()
    RunFolder(finished, resume=True).release()  # the lock died with its process
    assert not (finished / ".lock").exists()


def test_a_holder_on_another_machine_is_waited_for_until_it_is_silent(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchme.run import run_lock

    monkeypatch.setattr(run_lock, "_GRACE_S", 0.2)
    lock = finished / ".lock"
    lock.write_text(json.dumps({"machine": "elsewhere", "host": "node7", "pid": 12, "started": "1"}))
    beats = iter(range(100))
    monkeypatch.setattr(run_lock.time, "sleep", lambda _: os.utime(lock, (next(beats), 0)))
    with pytest.raises(RunFolderError, match="process 12 on node7"):
        RunFolder(finished, resume=True)
    monkeypatch.setattr(run_lock.time, "sleep", lambda _: None)
    RunFolder(finished, resume=True).release()
