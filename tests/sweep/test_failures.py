"""What breaks a trial does not break the sweep, unless too much breaks."""

import contextlib
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sweep.conftest import Swept, states, trials_of
from watchme.core.errors import WatchmeError
from watchme.sweep import sweep as sweep_module
from watchme.sweep.trial_outcome import failure

Sweep = Callable[..., Swept]
Begin = Callable[..., "subprocess.Popen[str]"]
PLAIN = ("hydra.sweeper.report=false", "optimizer.lr=0.01,0.02,0.03")


def test_a_broken_trial_is_fail_with_its_reason(sweep: Sweep, tmp_path: Path) -> None:
    faults = {
        "none": "",
        "exception": "ZeroDivisionError: division by zero",
        "memory": "out of memory: RuntimeError: CUDA out of memory",
        "undefined": "the objective is undefined (NaN)",
        "exit": "its process ended with status 7",
        "sigkill": "its process was killed by SIGKILL",
    }
    command = (f"model.fault={','.join(faults)}", "hydra.sweeper.report=false", "hydra.sweeper.processes=true")
    done = sweep(tmp_path / "s", *command)
    assert done.code == 0, done.stderr
    assert done.states == {"COMPLETE": 1, "FAIL": 5}
    for trial in done.trials[1:]:
        reason = faults[trial.params["model.fault"]]
        assert reason in trial.user_attrs["reason"]
        assert reason.split(":")[0] in (done.folder / str(trial.number) / "traceback.txt").read_text()
    assert "Traceback" not in done.stderr
    again = sweep(tmp_path / "s", *command)
    assert len(again.trials) == 6, "a failed trial is not repeated"


@pytest.mark.parametrize("text", ["out of memory on cuda:0; lower train.batch_size=64", "CUDA out of memory."])
def test_memory_is_the_first_word_of_its_reason_once(text: str) -> None:
    reason = failure(WatchmeError(text)).reason
    assert reason.startswith("out of memory")
    assert text in reason
    assert reason.lower().count("out of memory") == text.lower().count("out of memory") + ("CUDA" in text)


def test_max_failures_ends_the_sweep(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "s", *PLAIN, "model.fault=exception", "model.fault_above=0.015", "hydra.sweeper.max_failures=1"
    )
    assert done.code == 1
    assert done.states == {"COMPLETE": 1, "FAIL": 1}
    assert "hydra.sweeper.max_failures=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_trials_failed_is_said_clearly(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(tmp_path / "s", *PLAIN, "model.fault=exception")
    assert done.code == 1
    assert "All 3 trials" in done.stderr
    assert "3 x ZeroDivisionError: division by zero" in done.stderr
    assert "2/traceback.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_before_the_first_trial_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A study takes seconds to open on a busy machine, and an interrupt then ended in a traceback of 100 lines."""

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_module, "make_plan", interrupted)
    unused: Any = None
    with pytest.raises(SystemExit) as ended:
        sweep_module.start({}, unused, unused, unused, [])
    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "Interrupted before the first trial; nothing was run. The same command starts it.\n"
    )


@pytest.mark.parametrize("slots", [1, 2])
def test_ctrl_c_saves_and_the_same_command_goes_on(slots: int, begin: Begin, sweep: Sweep, tmp_path: Path) -> None:
    command = (*PLAIN, "train.epochs=12", f"hydra.sweeper.n_jobs={slots}")
    process = begin(tmp_path / "s", *command, "model.epoch_s=0.1")
    wait_for(tmp_path / "s" / "0" / "metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "The same command goes on" in stderr
    assert "Traceback" not in stderr
    assert '"status": "interrupted"' in (tmp_path / "s" / "0" / "run.json").read_text()
    assert (tmp_path / "s" / "leaderboard.csv").is_file()
    found = states(trials_of(tmp_path / "s"))
    assert found["LOST"] == slots
    assert "RUNNING" not in found
    done = sweep(tmp_path / "s", *command, "model.epoch_s=0.1", "hydra.sweeper.timeout_s=0.001")
    assert "COMPLETE" not in done.states, "no time was given, so nothing was begun"
    done = sweep(tmp_path / "s", *command, "model.epoch_s=0.1")
    assert done.code == 0, done.stderr
    assert done.states == {"COMPLETE": 3, "LOST": slots}
    points = sorted(trial.params["optimizer.lr"] for trial in done.trials if trial.state.name == "COMPLETE")
    assert points == [0.01, 0.02, 0.03]


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until a file is there."""
    wait_until(path.is_file, process)


def wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something has happened, or the process has ended."""
    while not happened() and process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
