"""What made a run: versions of packages, commit of the code, hardware, and weights, for its manifest."""

import contextlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from watchme import __version__
from watchme.config.schema import RunConfig
from watchme.core.invocation import as_started, is_console_script
from watchme.weights.initial import find_initial, random_weights

_PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics-opencv-headless",
    "torchreid",
    "accelerate",
    "hydra-core",
    "omegaconf",
    "optuna",
    "numpy",
    "onnx",
    "onnxruntime",
    "wandb",
)
_DIFF_CHARACTERS = 1_000_000
# The command as it was typed; `sys.argv` is rewritten before Hydra reads it.
_TYPED = ContextVar("typed", default=tuple(sys.argv))


def command() -> str:
    """The command line as the user typed it, quoted for a shell."""
    script, *arguments = _TYPED.get()
    program = "train.py" if is_console_script(script) else script
    return as_started(shlex.join(["python", program, *arguments]))


@contextlib.contextmanager
def typed_as(arguments: Sequence[str]) -> Iterator[None]:
    """Let `command` be train.py with these arguments, for a run that was started from Python."""
    token = _TYPED.set(("train.py", *arguments))
    try:
        yield
    finally:
        _TYPED.reset(token)


def versions() -> dict[str, str]:
    """Package -> version of what is installed."""
    from importlib import metadata  # 15 ms, which a refusal does without

    found = {"watchme": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, GPUs and platform; GPUs are known once an engine has imported torch."""
    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "gpus": gpus, "platform": platform.platform()}


def git_state() -> dict[str, Any] | None:
    """Commit, branch and dirty flag of the code that runs; None where it is no git checkout."""
    try:
        commit, branch = _git("rev-parse", "HEAD").strip(), _git("rev-parse", "--abbrev-ref", "HEAD").strip()
        # Without the option git refreshes the index, for which it takes the repository's lock.
        status = _git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "branch": branch, "dirty": bool(status.strip())}


def git_diff() -> str:
    """What differs from the commit in the code that runs; empty where nothing does, or without git."""
    try:
        return _git("--no-optional-locks", "diff", "--no-ext-diff", "--no-color", "HEAD")[:_DIFF_CHARACTERS]
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


def git_remote() -> str | None:
    """Address of the remote `origin` without user and password; None where there is none."""
    try:
        url = _git("remote", "get-url", "origin").strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return re.sub(r"(?<=://)[^/@]*@", "", url) or None


def _git(*arguments: str) -> str:
    here = Path(__file__).resolve().parent
    done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def initial_weights(config: RunConfig) -> dict[str, Any] | None:
    """The manifest's record of what a training starts from, fetched where it is not on this machine.

    None for other modes and for a resumed run.

    Raises:
        CheckpointError: If the weights cannot be fetched.
    """
    if config.mode != "train" or config.train.resume is not None:
        return None
    model = config.model
    found = find_initial(model.weights, getattr(model, "pretrained", None), model.engine, model.name)
    return found.record() if found is not None else random_weights(model.engine)
