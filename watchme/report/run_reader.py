"""Reads run folders: finished ones, damaged ones, and those of runs that still train."""

import csv
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from watchme.core.errors import RunFolderError
from watchme.core.liveness import has_ended
from watchme.core.metric_names import SPLITS, measured_objective
from watchme.io.files import read_json, read_yaml
from watchme.io.metrics_log import NOT_METRICS, read_metrics
from watchme.io.run_lookup import folder_of, of_types
from watchme.run.run_dir import CONFIG, MANIFEST, METRICS, SUMMARY, read_manifest

_OF_A_SOURCE = {
    "search": "Person search on",
    "predict": "People in",
    "embed": "Embeddings of",
    "find": "Find a person in",
}
_SECTIONS = ("model", "dataset", "train", "optimizer", "scheduler", "augmentation", "loss", "evaluation", "tracker")
_SUMMARY: Mapping[str, Any] = {
    **{"details": dict, "weights": dict, "objective": str, "objective_value": (int, float)},
    **dict.fromkeys(("best_epoch", "epochs"), int),
}


@dataclass(frozen=True)
class Run:
    """What a run folder holds. Only the manifest is sure to be there."""

    folder: Path  # the run folder
    manifest: Mapping[str, Any]  # run.json
    summary: Mapping[str, Any] = field(default_factory=dict)  # summary.json; empty where the run did not get so far
    lines: list[dict[str, Any]] = field(default_factory=list)  # metrics.jsonl, undefined values as NaN
    config: Mapping[str, Any] = field(default_factory=dict)  # the resolved config
    choices: Mapping[str, str] = field(default_factory=dict)  # option of each config group
    # Option that the group has by default, where conf/config.yaml can be read
    defaults: Mapping[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)  # the command line's overrides
    ran_in: str = ""  # working directory of the command
    ran_as: str = ""  # where the folder was then; empty where that is not known

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.config.get("model", {}).get("name", "?"))

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self.config.get("dataset", {}).get("name", "?"))

    @property
    def mode(self) -> str:
        """What was done: train, evaluate, check, export or search."""
        return str(self.config.get("mode", "train"))

    @property
    def title(self) -> str:
        """Model and dataset; for a trial its number too. A check is of the dataset alone."""
        if self.mode == "check":
            return f"Check of {self.dataset}"
        if self.mode != "train":
            if self.mode in _OF_A_SOURCE:
                return f"{_OF_A_SOURCE[self.mode]} {self.dataset}"
            noun = {"evaluate": "Evaluation", "export": "Export"}.get(self.mode, self.mode.capitalize())
            split = self.objective.partition("/")[0]
            where = f" ({split} split)" if self.mode == "evaluate" and split in SPLITS else ""
            return f"{noun} of {self.model} on {self.dataset}{where}"
        trial = self.config.get("trial") or {}
        return f"{self.model} on {self.dataset}" + (f", trial {trial['number']}" if "number" in trial else "")

    @property
    def objective(self) -> str:
        """Canonical name of the objective, of the split on which the run measured it."""
        name = str(self.summary.get("objective") or self.config.get("objective", ""))
        return measured_objective(self.mode, name, self.metrics)

    @property
    def objective_value(self) -> float | None:
        """Its best value; None where it is undefined."""
        value = self.summary.get("objective_value", self.manifest.get("objective_value"))
        return None if value is None else float(value)

    @property
    def inputs(self) -> dict[str, Path]:
        """The weights that an evaluation, an export or a search is of, by what they are."""
        keys = {"Weights": "checkpoint", "Detector": "detector", "Re-ID model": "reid"}
        found = {label: self.config.get(key) for label, key in keys.items()}
        return {label: self._found(Path(str(path)).expanduser()) for label, path in found.items() if path}

    def _found(self, path: Path) -> Path:
        """A file of the config, also where it and the run were moved or copied together since."""
        if not self.ran_as:
            return path
        moved = self.folder / os.path.relpath(Path(self.ran_in, path), self.ran_as)
        return Path(os.path.normpath(moved)) if moved.exists() else path

    @property
    def origin(self) -> Path | None:
        """Folder of the training that an evaluation's weights are from, if it is still there."""
        weights = self.inputs.get("Weights")
        return folder_of(weights.resolve()) if weights else None

    @property
    def comparable(self) -> tuple[str, str, str]:
        """Objective with its split, dataset, and its fingerprint: only runs equal in all three can be ranked.

        A run with `train.limit_batches` is like no other.
        """
        fingerprint = (self.manifest.get("dataset") or {}).get("fingerprint", "")
        if "limit_batches" in self.manifest:
            fingerprint = f"limited-{self.folder.name}"
        return self.objective, self.dataset, str(fingerprint)

    @property
    def last_value(self) -> float | None:
        """The objective's last value of an epoch, e.g. of a run that was interrupted."""
        points = self.series.get(self.objective, [])
        return points[-1][1] if points else None

    @cached_property
    def status(self) -> str:
        """As in the manifest; `killed` where it says `running` and its process is gone."""
        status = str(self.manifest.get("status", "unknown"))
        if status != "running":
            return status
        process = self.manifest.get("process")
        if process is None and self.manifest.get("host") == socket.gethostname():  # written before 2026-11-26
            try:
                os.kill(int(self.manifest["pid"]), 0)
            except (OSError, KeyError, ValueError):
                return "killed"
        return "killed" if has_ended(process) else status

    @cached_property
    def series(self) -> dict[str, list[tuple[int, float]]]:
        """Points (epoch, value) of each metric, undefined ones left out."""
        found: dict[str, list[tuple[int, float]]] = {}
        for line in self.lines:
            for name, value in line.items():
                if name not in NOT_METRICS and isinstance(value, (int, float)) and value == value:
                    found.setdefault(name, []).append((line["epoch"], float(value)))
        return found

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Final metrics by canonical name; undefined ones are left out."""
        return {name: value for name, value in self.summary.items() if "/" in name and isinstance(value, (int, float))}


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        RunFolderError: If it has no readable run.json.
    """
    hydra = read_yaml(folder / ".hydra" / "hydra.yaml").get("hydra", {})
    saved = of_types(read_yaml(folder / CONFIG), dict.fromkeys((*_SECTIONS, "trial"), dict))
    runtime = hydra.get("runtime", {})
    return Run(
        folder=folder,
        manifest=read_manifest(folder),
        summary=of_types(read_json(folder / SUMMARY), _SUMMARY),
        lines=read_metrics(folder / METRICS),
        config={name: part for name, part in saved.items() if part is not None or name not in _SECTIONS},
        choices={
            group: str(option)
            for group, option in runtime.get("choices", {}).items()
            if "/" not in group and "@" not in group
        },
        defaults=_defaults(runtime.get("config_sources", [])),
        overrides=[str(override) for override in hydra.get("overrides", {}).get("task", [])],
        ran_in=str(runtime.get("cwd", "")),
        ran_as=str(runtime.get("output_dir", "")),
    )


def find_runs(root: Path) -> list[Run]:
    """All runs in a folder, at any depth, the newest first. What is no run, or is damaged throughout, is left out."""
    found = []
    for manifest in root.rglob(MANIFEST):
        if _is_copy(manifest):
            continue
        try:
            found.append(read_run(manifest.parent))
        except (RunFolderError, OSError, ValueError):
            continue
    found = [run for run in found if run.manifest or run.config]
    return sorted(found, key=lambda run: str(run.manifest.get("started", "")), reverse=True)


def _is_copy(manifest: Path) -> bool:
    """Whether W&B keeps a manifest among the files of the run that it is of."""
    return any(folder.name == "wandb" and (folder.parent / MANIFEST).is_file() for folder in manifest.parents)


def read_pictures(folder: Path) -> list[dict[str, Any]]:
    """Pictures that a run has shown and whose files are still there."""
    found = read_json(folder / "pictures.json").get("pictures") or []
    return [picture for picture in found if (folder / picture["file"]).is_file()]


def read_tables(folder: Path) -> dict[str, list[list[str]]]:
    """Tables that a run has shown: name of the file -> rows, the first being the columns' names.

    Rows that a killed process cut off, and files without any, are left out.
    """
    tables = {}
    for path in sorted((folder / "tables").glob("*.csv")):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = list(csv.reader(file))
        if whole := [row for row in rows if len(row) == len(rows[0])]:
            tables[path.stem] = whole
    return tables


def _defaults(sources: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The defaults list of the project's config.yaml, if it is still where the run found it."""
    for source in sources:
        if source.get("provider") == "main":
            entries = read_yaml(Path(str(source.get("path"))) / "config.yaml").get("defaults", [])
            pairs = (next(iter(entry.items())) for entry in entries if isinstance(entry, Mapping))
            return {group: str(option) for group, option in pairs if " " not in group}
    return {}
