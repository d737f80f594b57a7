"""Slots: each runs one trial at a time, in this process, in a worker process, or through a Hydra launcher."""

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from watchme.sweep.trial_outcome import Outcome, failure

WORKER = "WATCHME_SWEEP_WORKER"
_PATIENCE_S = 30.0


class InProcess:
    """Runs trials in this process through a Hydra launcher, each with the `extra` overrides of this slot.

    `capture` writes what a trial prints into `console.log` of its folder instead of the console.
    """

    def __init__(self, launcher: Launcher, config: DictConfig, *, capture: bool, extra: Sequence[str] = ()) -> None:
        self.launcher, self.config, self.capture = launcher, config, capture
        self.extra = list(extra)

    def run(self, number: int, folder: Path, overrides: Sequence[str]) -> Outcome:
        """Run a trial; whatever it raises becomes its outcome."""
        with self._captured(folder):
            outcome = self._outcome(number, overrides)
            # Only now is nothing left that holds the error, whose traceback holds the trial's model and batches.
            _free_memory()
        return outcome

    def _outcome(self, number: int, overrides: Sequence[str]) -> Outcome:
        try:
            returned = self.launcher.launch([[*overrides, *self.extra]], initial_job_idx=number)[0]
            return Outcome(_numbers(returned.return_value))
        except KeyboardInterrupt:
            return Outcome(reason="interrupted", lost=True)
        except BaseException as error:  # SystemExit of a library must not end the sweep either
            return failure(error)

    def interrupt(self) -> None:
        """Nothing to do: the trial runs in this process and gets the signal too."""

    def close(self) -> None:
        """Nothing to end."""

    @contextlib.contextmanager
    def _captured(self, folder: Path) -> Iterator[None]:
        if not self.capture:
            yield
            return
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "console.log").open("a", encoding="utf-8", buffering=1) as file:
            try:
                with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                    yield
            finally:
                # Hydra's log handlers keep the stream of the time when they were made.
                configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


class WorkerProcess:
    """Runs trials, one after the other, in a process of its own: the same command, started again as a worker.

    If the worker dies, its trial fails and the sweep goes on; the next trial gets a new worker. `name` is that of the
    worker's log file, `variables` are added to this process's environment.
    """

    def __init__(self, folder: Path, name: str, variables: Mapping[str, str]) -> None:
        self.folder, self.name, self.variables = folder, name, variables
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: IO[bytes] | None = None
        self._answers: IO[bytes] | None = None
        self._changing = threading.Lock()

    def run(self, number: int, folder: Path, overrides: Sequence[str]) -> Outcome:
        """Send a trial to the worker, and wait until it answers or dies."""
        with self._changing:
            process, jobs, answers = self._started()
        try:
            job = {"number": number, "folder": str(folder), "overrides": list(overrides)}
            jobs.write(json.dumps(job).encode() + b"\n")
            jobs.flush()
            answer = _answer(process, answers)
        except (BrokenPipeError, ValueError):  # a sweep that ends closes the pipes of a trial that is waited for
            answer = None
        if answer is not None:
            return Outcome(**json.loads(answer))
        return self._death(process)

    def interrupt(self) -> None:
        """SIGTERM ends a run as Ctrl-C does: it saves first."""
        with self._changing:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Wait until the worker has ended; kill it if it does not."""
        with self._changing:
            if self._process is None:
                return
            for pipe in (self._jobs, self._answers):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _started(self) -> tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]:
        if self._process is not None and self._process.poll() is None and self._jobs and self._answers:
            return self._process, self._jobs, self._answers
        job_end, job_start = os.pipe()
        answer_end, answer_start = os.pipe()
        logs = self.folder / "workers"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{self.name}.log").open("ab") as file:
            self._process = subprocess.Popen(
                # The command as it was typed, `python -X ...` or `python -c ...` included.
                [sys.executable, *sys.orig_argv[1:], f"hydra.sweep.dir={json.dumps(str(self.folder))}"],
                env={**os.environ, **self.variables, WORKER: f"{job_end}:{answer_start}"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=(job_end, answer_start),
                start_new_session=True,  # Ctrl-C reaches the sweep, which then ends its workers in order
            )
        os.close(job_end)
        os.close(answer_start)
        self._jobs, self._answers = os.fdopen(job_start, "wb"), os.fdopen(answer_end, "rb")
        return self._process, self._jobs, self._answers

    def _death(self, process: subprocess.Popen[bytes]) -> Outcome:
        code = process.wait()
        log = self.folder / "workers" / f"{self.name}.log"
        tail = log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.is_file() else ""
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; the kernel does so when memory runs out" if -code == signal.SIGKILL else ""
            return Outcome(reason=f"its process was killed by {name}{hint}", traceback=tail)
        return Outcome(reason=f"its process ended with status {code}", traceback=tail)


Slot = InProcess | WorkerProcess


def _free_memory() -> None:
    """Free the GPU memory of a trial, of which torch would keep a cache, before the next trial of this process."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _answer(process: subprocess.Popen[bytes], answers: IO[bytes]) -> bytes | None:
    """A worker's next line; None if it died. A process that it started may still hold the pipe open."""
    while True:
        ready, _, _ = select.select([answers], [], [], 1.0)
        if ready:
            return answers.readline() or None
        if process.poll() is not None:
            return None


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [float(one) for one in values]
