"""A run's folder: its manifest (run.json), status and lock, and the refusal to overwrite another run.

config.yaml    resolved config            metrics.jsonl   one line an epoch
run.json       manifest and status        summary.json    final metrics
train.log      log with times             weights/        best.pt, last.pt
.hydra/        what Hydra composed        traceback.txt   where a run failed
"""

import contextlib
import errno
import json
import math
import os
import platform
import socket
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from watchme.core.errors import RunFolderError
from watchme.core.interfaces import Result
from watchme.core.liveness import this_process
from watchme.io.files import json_value, overwrite_text, remove_temporaries, replace_json, replace_text
from watchme.io.run_lookup import CONFIG, MANIFEST, METRICS, SUMMARY, WEIGHTS, folder_of, manifest_of
from watchme.run import provenance
from watchme.run.log_file import start_log_file
from watchme.run.run_lock import RunLock

__all__ = ["CONFIG", "MANIFEST", "METRICS", "SUMMARY", "WEIGHTS", "RunFolder", "folder_of", "read_manifest"]

_HYDRA = ".hydra"
_TRACEBACK = "traceback.txt"
# What a run writes, sooner or later: a name that is taken would end it then.
_FILES = (MANIFEST, CONFIG, METRICS, SUMMARY, _TRACEBACK, "train.log", "report.html", "pictures.json")
_FOLDERS = (WEIGHTS, _HYDRA, "evaluation", "tables", "yolo")


class RunFolder:
    """The folder of one run. Nothing of it is written before `open`, so that a command that is refused changes nothing.

    Raises:
        RunFolderError: If another process works on it, if it holds a run and `resume` is false, or holds none and
            `resume` is true. A run that ended before its first checkpoint is started again.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path.resolve()
        self.path.mkdir(parents=True, exist_ok=True)
        self.is_open = False
        # An evaluation opens the folder only when it has results; its time and start count from here.
        self._clock, self._started = time.perf_counter(), _now()
        manifest = self.path / MANIFEST
        self.manifest = manifest_of(self.path)
        before = {"at": _now(), "command": provenance.command(), "status_before": self.manifest.get("status")}
        self.starts_again = manifest.is_file() and not resume
        if resume and not manifest.is_file():
            raise RunFolderError(f"{self.path} is not a run folder: it has no {MANIFEST}.")
        if self.starts_again and not self._has_nothing_to_keep():
            raise RunFolderError(
                f"{self.path} holds a run already, and runs are never overwritten.\n"
                f"    Go on with it by train.resume={self.path}, or choose another folder with hydra.run.dir=<folder>."
            )
        for name in _FILES:
            if (self.path / name).is_dir():
                raise RunFolderError(f"{self.path / name} is a folder where the run writes a file; move it away.")
        for name in _FOLDERS:
            if os.path.lexists(self.path / name) and not (self.path / name).is_dir():
                raise RunFolderError(f"{self.path / name} is no folder, where the run makes one; move it away.")
        self._lock = RunLock(self.path)
        self._lock.acquire()
        if resume:
            self.manifest.setdefault("resumed", []).append(before)
        elif self.starts_again:
            self.manifest = {"started_again": [*self.manifest.get("started_again", []), before]}

    def _has_nothing_to_keep(self) -> bool:
        """Whether the run in the folder ended before its first checkpoint."""
        ended = self.manifest.get("status") in ("finished", "pruned", "refused")
        return not ended and not any((self.path / WEIGHTS).glob("*.pt"))

    def open(self, config: DictConfig, overrides: list[str]) -> None:
        """Write the resolved config, what Hydra composed, and the manifest; status `running`."""
        for folder in (self.path, self.path / WEIGHTS):
            remove_temporaries(folder)
        replace_text(self.path / CONFIG, OmegaConf.to_yaml(config, resolve=True))
        _write_hydra(self.path / _HYDRA, config)
        self.manifest |= {
            "status": "running",
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "process": this_process(),
            "command": self.manifest.get("command", provenance.command()),
            # A resumed run keeps those that it was started with.
            "overrides": self.manifest.get("overrides", overrides),
            "choices": _choices(),
            "started": self.manifest.get("started", self._started),
            "seed": OmegaConf.select(config, "train.seed"),
            "git": provenance.git_state(),
            "packages": provenance.versions(),
            "hardware": provenance.hardware(),
            "python": platform.python_version(),
            "fallbacks": self.manifest.get("fallbacks", []),
        }
        self.is_open = True
        self.save()
        start_log_file()

    def record(self, key: str, value: Any) -> None:
        """Put a value into the manifest, which is written once the folder is open."""
        self.manifest[key] = value
        self._save_if_open()

    def fallback(self, message: str) -> None:
        """Record that something other than what was asked for is done."""
        fallbacks = self.manifest.setdefault("fallbacks", [])
        if message not in fallbacks:
            fallbacks.append(message)
            self._save_if_open()

    def _save_if_open(self) -> None:
        if self.is_open:
            self.save()

    def release(self) -> None:
        """Let other processes work on the run."""
        self._lock.release()

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
            with contextlib.suppress(OSError):  # of a full disk: the status is worth more
                replace_text(self.path / _TRACEBACK, text)
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
        """Write the manifest, whole or not at all; on a full disk over the old one, which needs no new block."""
        try:
            replace_json(self.path / MANIFEST, self.manifest)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not (self.path / MANIFEST).is_file():
                raise
            overwrite_text(self.path / MANIFEST, json.dumps(json_value(self.manifest), indent=2) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a run folder; empty where it is damaged.

    Raises:
        RunFolderError: If the folder is not a run's.
    """
    if not (folder / MANIFEST).is_file():
        raise RunFolderError(f"{folder} is not a run folder: it has no {MANIFEST}.")
    return manifest_of(folder)


def _write_hydra(folder: Path, config: DictConfig) -> None:
    """Write what Hydra itself writes before a job begins (hydra.output_subdir), which would be too early."""
    if not HydraConfig.initialized():
        return
    hydra = HydraConfig.get()
    replace_text(folder / "config.yaml", OmegaConf.to_yaml(config))
    replace_text(folder / "hydra.yaml", OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})))
    replace_text(folder / "overrides.yaml", OmegaConf.to_yaml(hydra.overrides.task))


def _choices() -> dict[str, Any]:
    """Group -> option that Hydra composed the config with; empty outside a Hydra application."""
    if not HydraConfig.initialized():
        return {}
    choices: Any = OmegaConf.to_container(HydraConfig.get().runtime.choices)
    return {group: option for group, option in choices.items() if not str(group).startswith("hydra/")}


def _now() -> str:
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")
