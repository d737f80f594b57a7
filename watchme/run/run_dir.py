"""A run's folder: its manifest (run.json), status, and the refusal to overwrite another run.

config.yaml    resolved config            metrics.jsonl   one line an epoch
run.json       manifest and status        summary.json    final metrics
train.log      log with times             weights/        best.pt, last.pt
.hydra/        what Hydra composed        traceback.txt   where a run failed
"""

import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
import traceback
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from watchme import __version__
from watchme.core.errors import RunFolderError
from watchme.core.interfaces import Result
from watchme.io.files import replace_json
from watchme.io.run_lookup import CONFIG, MANIFEST, folder_of

__all__ = [
    "CONFIG",
    "MANIFEST",
    "METRICS",
    "SUMMARY",
    "WEIGHTS",
    "RunFolder",
    "folder_of",
    "hardware",
    "read_manifest",
]

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
WEIGHTS = "weights"
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


class RunFolder:
    """The folder of one run, opened for writing.

    Args:
        path: The folder; made if it is not there.
        resume: Whether the run that the folder holds goes on.

    Raises:
        RunFolderError: If the folder holds a run and `resume` is false, or holds none and it is true.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path.resolve()
        self.path.mkdir(parents=True, exist_ok=True)
        manifest = self.path / MANIFEST
        if resume:
            self.manifest = read_manifest(self.path)
            self.manifest.setdefault("resumed", []).append(
                {"at": _now(), "command": _command(), "status_before": self.manifest.get("status")}
            )
            return
        try:
            # Exclusive creation: of two processes that were given one folder, one runs and one is told.
            manifest.open("x").close()
        except FileExistsError:
            raise RunFolderError(
                f"{self.path} holds a run already, and runs are never overwritten.\n"
                f"    Go on with it by train.resume={self.path}, or choose another folder with hydra.run.dir=<folder>."
            ) from None
        self.manifest = {}

    def open(self, config: DictConfig, overrides: list[str]) -> None:
        """Write the resolved config and the manifest; status `running`."""
        OmegaConf.save(config, self.path / CONFIG, resolve=True)
        self.manifest |= {
            "status": "running",
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": self.manifest.get("command", _command()),
            "overrides": overrides,
            "choices": _choices(),
            "started": self.manifest.get("started", _now()),
            "seed": OmegaConf.select(config, "train.seed"),
            "git": _git(),
            "packages": _versions(),
            "hardware": hardware(),
            "python": platform.python_version(),
            "fallbacks": self.manifest.get("fallbacks", []),
        }
        self._clock = time.perf_counter()
        self.save()

    def record(self, key: str, value: Any) -> None:
        """Put a value into the manifest."""
        self.manifest[key] = value
        self.save()

    def fallback(self, message: str) -> None:
        """Record that something other than what was asked for is done."""
        if message not in self.manifest["fallbacks"]:
            self.manifest["fallbacks"].append(message)
            self.save()

    def close(self, status: str, result: Result | None = None, error: BaseException | None = None) -> None:
        """Write the last status, the timings, and the traceback of a run that failed."""
        seconds = time.perf_counter() - self._clock
        timings = self.manifest.setdefault("timings", {})
        timings["total_s"] = round(timings.get("total_s", 0.0) + seconds, 3)
        self.manifest |= {"status": status, "ended": _now()}
        self.manifest.pop("error", None)
        if error is not None:
            self.manifest["error"] = f"{type(error).__name__}: {error}"
            text = "".join(traceback.format_exception(error))
            (self.path / "traceback.txt").write_text(text, encoding="utf-8")
        if result is not None and not math.isnan(result.objective):
            self.manifest["objective_value"] = result.objective
        self.save()

    def write_summary(self, objective: str, status: str, result: Result) -> None:
        """Write summary.json: the final metrics under their canonical names, beside objective and weights."""
        summary: dict[str, Any] = {
            "status": status,
            "objective": objective,
            "objective_value": result.objective,
            "best_epoch": result.best_epoch,
            "epochs": result.epochs,
            "weights": {name: str(path) for name, path in result.weights.items()},
            **result.metrics,
        }
        if result.details:
            summary["details"] = dict(result.details)
        replace_json(self.path / SUMMARY, summary)

    def save(self) -> None:
        """Write the manifest, whole or not at all."""
        replace_json(self.path / MANIFEST, self.manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a run folder.

    Raises:
        RunFolderError: If the folder is not a run's.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise RunFolderError(f"{folder} is not a run folder: it has no readable {MANIFEST}.") from None
    return manifest


def _choices() -> dict[str, Any]:
    """Group -> option that Hydra composed the config with; empty outside a Hydra application."""
    if not HydraConfig.initialized():
        return {}
    choices: Any = OmegaConf.to_container(HydraConfig.get().runtime.choices)
    return {group: option for group, option in choices.items() if not str(group).startswith("hydra/")}


def _now() -> str:
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")


def _command() -> str:
    import shlex

    return shlex.join(["python", *sys.argv])


def _versions() -> dict[str, str]:
    found = {"watchme": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    # torch, if an engine has imported it, knows the GPUs; the manifest never imports it by itself.
    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "gpus": gpus, "platform": platform.platform()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """Commit and dirty flag of the code that runs; None where it is no git checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(status.strip())}
