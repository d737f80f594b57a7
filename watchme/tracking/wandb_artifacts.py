"""Artifacts of a W&B run: its weights, its dataset, and the weights of other runs that it used."""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import wandb

from watchme.core.interfaces import Result
from watchme.core.metric_names import is_better
from watchme.io.files import json_value, read_json
from watchme.io.run_lookup import SUMMARY, WEIGHTS, folder_of, manifest_of
from watchme.tracking.setup import Setup

_MODEL_CARD = "MODEL_CARD.md"
_BEST, _LAST = "best", "last"


class Artifacts:
    """Logs and uses artifacts.

    Weights are an artifact of the run, with the aliases `best` and `last`. Those of a sweep's trials are versions of
    one artifact of the study, with aliases such as `trial7-best`; `best` is that of the best finished trial so far.

    Args:
        run: The W&B run.
        online: Whether the server can be asked.
        setup: What is known of the run.
        warn: Takes a topic and a text.
    """

    def __init__(self, run: Any, online: bool, setup: Setup, warn: Callable[[str, str], None]) -> None:
        self._run, self._online, self._setup, self._warn = run, online, setup, warn
        self._folder = Path(setup.folder)
        trial = setup.trial
        self._name = f"weights-{_slug(str(trial['study']))}" if trial else f"weights-{run.id}"
        self._prefix = f"trial{trial['number']}-" if trial else ""

    def names(self) -> dict[str, str]:
        """Stem of a weights file -> artifact with alias, for other runs that use it."""
        return {stem: f"{self._name}:{self._prefix}{stem}" for stem in (_BEST, _LAST)}

    def log_weights(self, status: str, result: Result, dataset: Any, objective: str) -> bool:
        """Log the weights of a run that has ended, referring to the files in the run folder without copying them.

        Args:
            status: How it ended: finished or pruned.
            result: Its result.
            dataset: The manifest's record of the dataset.
            objective: Name under which the run measured its objective.

        Returns:
            Whether they are the best of the study so far.
        """
        best_of_study = status == "finished" and self._is_best_of_study(objective, result.objective)
        for stem, path in result.weights.items():
            if not path.is_file():
                continue
            metadata = {
                "dataset": dataset,
                "objective": objective,
                "objective_value": result.objective if math.isfinite(result.objective) else None,
                "best_epoch": result.best_epoch,
                "metrics": {name: value for name, value in result.metrics.items() if math.isfinite(value)}
                if stem == _BEST
                else {},
            }
            aliases = [f"{self._prefix}{stem}", *([_BEST] if best_of_study and stem == _BEST and self._prefix else [])]
            self._log_file(path, metadata, aliases)
        return best_of_study

    def log_last(self) -> None:
        """Log the last checkpoint of a run that broke off, so that it can be resumed elsewhere; online alone."""
        path = self._folder / WEIGHTS / f"{_LAST}.pt"
        if self._online and path.is_file():  # offline the file would have changed before it is uploaded
            self._log_file(path, {}, [f"{self._prefix}{_LAST}"])

    def _log_file(self, path: Path, metadata: Mapping[str, Any], aliases: list[str]) -> None:
        artifact = wandb.Artifact(self._name, type="model", metadata=dict(metadata))
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
        card = path.with_name(_MODEL_CARD)
        if card.is_file():
            artifact.add_file(str(card), skip_cache=True)
        self._run.log_artifact(artifact, aliases=aliases)

    def use_dataset(self, how: str, config: Mapping[str, Any], found: Any) -> None:
        """Log the dataset as what the run used: its fingerprint, and by `how` its place or its files.

        A new fingerprint is a new version. Offline it is logged as an output, since W&B takes inputs online alone.
        """
        section = config.get("dataset") or {}
        name, root = str(section.get("name", "dataset")), section.get("root")
        metadata = {"name": name, "root": root, **(found if isinstance(found, Mapping) else {"fingerprint": found})}
        artifact = wandb.Artifact(f"dataset-{_slug(name)}", type="dataset", metadata=metadata)
        with artifact.new_file("dataset.json") as file:
            json.dump(json_value(metadata), file)
        place = None if root is None else Path(str(root)).expanduser()
        if place is not None and place.is_dir():
            if how == "upload":
                artifact.add_dir(str(place), name="data", skip_cache=True)
            else:  # without checksums, for which every image would be read
                artifact.add_reference(place.resolve().as_uri(), name="data", checksum=False)
        if not self._online:
            self._run.log_artifact(artifact)
            return
        try:
            self._run.use_artifact(artifact)
        except Exception as error:  # the client's own errors have no common base
            self._warn("dataset", f"W&B did not take the dataset {name} as an artifact: {error}")

    def use_weights(self, used: list[dict[str, str]]) -> None:
        """Declare weights of other runs as inputs of this one; what W&B does not have is warned about."""
        for item in used if self._online else []:
            try:
                self._run.use_artifact(f"{self._run.entity}/{item['project']}/{item['artifact']}")
            except Exception as error:  # the client's own errors have no common base
                text = f"W&B has no {item['artifact']}, from which this run's weights are"
                self._warn("lineage", f"{text}; sync that run first ({type(error).__name__})")

    def _is_best_of_study(self, objective: str, value: float) -> bool:
        """Whether no other finished trial in the sweep's folder has come to a better objective so far."""
        if self._setup.trial is None or not math.isfinite(value):
            return False
        for path in self._folder.parent.glob(f"*/{SUMMARY}"):
            other = read_json(path)
            found = other.get("objective_value")
            same = path.parent != self._folder and other.get("objective") == objective
            same = same and other.get("status") == "finished"
            if same and isinstance(found, (int, float)) and not is_better(objective, value, float(found)):
                return False
        return True


def weights_used(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """The weights of tracked runs that a run starts from, evaluates, exports or searches with.

    Returns:
        For each: `file`, `run` (W&B's id), `project`, and `artifact` with its alias.
    """
    train, model = config.get("train") or {}, config.get("model") or {}
    if config.get("mode", "train") == "train":
        given = [train.get("resume") or model.get("weights")]
    else:
        given = [config.get(name) for name in ("checkpoint", "detector", "reid")]
    found = []
    for value in filter(None, given):
        path = Path(str(value)).expanduser()
        folder = folder_of(path)
        wandb_of = manifest_of(folder).get("wandb") or {} if folder is not None else {}
        if "id" not in wandb_of:
            continue
        stem = _LAST if path.is_dir() or not path.stem.startswith(_BEST) else _BEST
        artifact = (wandb_of.get("artifacts") or {}).get(stem) or f"weights-{wandb_of['id']}:{stem}"
        project = str(wandb_of.get("project", ""))
        found.append({"file": str(path), "run": str(wandb_of["id"]), "project": project, "artifact": artifact})
    return found


def _slug(text: str) -> str:
    """A name that W&B takes for an artifact."""
    return re.sub(r"[^\w.-]+", "-", text)[:100].strip("-") or "unnamed"
