"""The worker process of a `slots.WorkerProcess`: runs the trials that it reads from a pipe until that is closed."""

import dataclasses
import json
import os
import queue
import signal
import threading
from pathlib import Path
from typing import IO

from watchme.sweep.slots import WORKER, InProcess

_PATIENCE_S = 20.0


def serve(slot: InProcess) -> None:
    """Run the trials that the sweep sends.

    If the sweep dies, its end of the pipe is closed: the trial saves and ends, as nothing waits for it.
    """
    jobs_end, answers_end = (int(number) for number in os.environ.pop(WORKER).split(":"))
    for end in (jobs_end, answers_end):
        os.set_inheritable(end, False)
    jobs: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_listen, args=(os.fdopen(jobs_end, "rb"), jobs), daemon=True).start()
    with os.fdopen(answers_end, "wb") as answers:
        while (line := jobs.get()) is not None:
            job = json.loads(line)
            outcome = slot.run(job["number"], Path(job["folder"]), job["overrides"])
            answers.write(json.dumps(dataclasses.asdict(outcome)).encode() + b"\n")
            answers.flush()
            if outcome.lost:
                return


def _listen(pipe: IO[bytes], jobs: "queue.Queue[bytes | None]") -> None:
    for line in pipe:
        jobs.put(line)
    jobs.put(None)
    # The main thread either waits for a job and ends now, or runs a trial, which must save and end.
    if not _ended(_PATIENCE_S / 10):
        os.kill(os.getpid(), signal.SIGTERM)
        _ended(_PATIENCE_S)
        os._exit(1)


def _ended(seconds: float) -> bool:
    threading.main_thread().join(seconds)
    return not threading.main_thread().is_alive()
