"""How a slot runs a trial: in this process, in a worker process of its own, or through a Hydra launcher."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from watchme.core.errors import ConfigError, WatchmeError
from watchme.sweep.study import Outcome

WORKER = "WATCHME_SWEEP_WORKER"
_INTERRUPTED = 130
_PATIENCE_S = 30.0


class Slot(Protocol):
    """Runs one trial at a time."""

    def run(self, number: int, overrides: Sequence[str]) -> Outcome:
        """Run the trial `number` to its end."""
        ...

    def interrupt(self) -> None:
        """Let the running trial save and end."""
        ...

    def close(self) -> None:
        """Free what the slot holds."""
        ...


class InProcess:
    """Runs trials in this process through a Hydra launcher.

    Args:
        launcher: Hydra's launcher; the basic one runs here, others wherever they do.
        config: The sweep's composed config.
        folder: The sweep's folder.
        capture: Write what a trial prints into `<trial>/console.log` instead of the console.
        extra: Overrides of this slot.
    """

    def __init__(
        self, launcher: Launcher, config: DictConfig, folder: Path, *, capture: bool, extra: Sequence[str] = ()
    ) -> None:
        self.launcher, self.config, self.folder, self.capture = launcher, config, folder, capture
        self.extra = list(extra)

    def run(self, number: int, overrides: Sequence[str]) -> Outcome:
        """Run a trial; whatever it raises becomes its outcome."""
        with self._captured(number):
            try:
                returned = self.launcher.launch([[*overrides, *self.extra]], initial_job_idx=number)[0]
                value = returned.return_value
            except KeyboardInterrupt:
                return Outcome(reason="interrupted", lost=True)
            except BaseException as error:  # SystemExit of a library must not end the sweep either
                return failure(error)
        return Outcome(_numbers(value))

    def interrupt(self) -> None:
        """A signal reaches the trial by itself, as it runs in this process."""

    def close(self) -> None:
        """Nothing is held."""

    @contextlib.contextmanager
    def _captured(self, number: int) -> Iterator[None]:
        if not self.capture:
            yield
            return
        place = self.folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        with (place / "console.log").open("a", encoding="utf-8", buffering=1) as file:
            try:
                with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                    yield
            finally:
                # Hydra's handlers hold on to the stream that was there when they were made.
                configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


class WorkerProcess:
    """Runs trials in a process of its own, one after the other: this very command, started again as a worker.

    A worker that dies takes its trial along, not the sweep; the next trial gets a new one.

    Args:
        folder: The sweep's folder.
        name: Of the worker's log.
        gpu: The GPU that it sees; None leaves the environment as it is.
        threads: For its numerical libraries; None leaves the environment as it is.
    """

    def __init__(self, folder: Path, name: str, gpu: str | None, threads: int | None) -> None:
        self.folder, self.name = folder, name
        self.variables = {"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}
        if threads is not None and "OMP_NUM_THREADS" not in os.environ:
            self.variables["OMP_NUM_THREADS"] = str(threads)
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: IO[bytes] | None = None
        self._answers: IO[bytes] | None = None
        self._changing = threading.Lock()

    def run(self, number: int, overrides: Sequence[str]) -> Outcome:
        """Hand a trial to the worker and wait for its answer or its death."""
        with self._changing:
            process, jobs, answers = self._started()
        try:
            jobs.write(json.dumps({"number": number, "overrides": list(overrides)}).encode() + b"\n")
            jobs.flush()
            answer = _answer(process, answers)
        except BrokenPipeError:
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
        """Let the worker end."""
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
            hint = "; the system kills so when memory runs out" if -code == signal.SIGKILL else ""
            return Outcome(reason=f"its process was killed by {name}{hint}", traceback=tail)
        return Outcome(reason=f"its process ended with status {code}", traceback=tail)


def failure(error: BaseException) -> Outcome:
    """The outcome of a run that ended with an error."""
    interrupted = isinstance(error, WatchmeError) and error.exit_code == _INTERRUPTED
    if interrupted or isinstance(error, KeyboardInterrupt):
        return Outcome(reason="interrupted", lost=True)
    text = str(error).strip()
    head = text if isinstance(error, WatchmeError) else f"{type(error).__name__}: {text}"
    if isinstance(error, ConfigError):
        head = "; ".join(" ".join(str(problem).split()) for problem in error.problems)
    if "out of memory" in text.lower():
        head = f"out of memory: {head}"
    return Outcome(reason=head, traceback="".join(traceback.format_exception(error)))


def _answer(process: subprocess.Popen[bytes], answers: IO[bytes]) -> bytes | None:
    """A worker's next line; None if it died. A process that it left behind may hold its pipe open."""
    while True:
        ready, _, _ = select.select([answers], [], [], 1.0)
        if ready:
            return answers.readline() or None
        if process.poll() is not None:
            return None


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [float(one) for one in values]
