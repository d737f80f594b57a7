"""Weights & Biases: one W&B run for each training run, resumed runs included. Only process_main.py imports this.

Of W&B's automatics (console capture, code, git, jobs, requirements, crash reports) all but system metrics are off.
What W&B writes lies in the run folder, and an offline run is uploaded later with `wandb sync`.
"""

import math
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from watchme.core.interfaces import Callback, EpochEvent, Picture, Result, Stop, Table
from watchme.core.metric_names import higher_is_better, measured_objective
from watchme.io.files import read_json, read_yaml
from watchme.run.run_dir import CONFIG, MANIFEST
from watchme.tracking.messages import Replies
from watchme.tracking.setup import Setup, WandbSetup, probe, server

# W&B's own convention: 255 is a run that its user ended. A pruned trial did what it should.
EXIT_CODES = {"finished": 0, "pruned": 0, "interrupted": 255, "failed": 1, "killed": 255}
_INIT_S = 20.0
_TEARDOWN_S = 10.0
_FINISH_S = 600.0
_LAYERS = {"missed": "misses", "false": "false positives"}
# Files of the run folder that W&B's Files tab shows.
_SAVED = ("train.log", "run.json", "traceback.txt")
# What a manifest tells of where a run is from, and the options of config groups by which runs are told apart.
_PROVENANCE = ("git", "command", "packages", "choices")
_MODEL_CARD = "MODEL_CARD.md"


class WandbTracker(Callback):
    """Logs config, metrics, pictures, tables and weights of a run.

    The epoch is both the axis of every metric and W&B's own step, so that a resumed run goes on where it was. `replies`
    reports mode, address and the stop button to the training process.

    Raises:
        wandb.Error: If not even an offline run can be started.
    """

    def __init__(self, setup: Setup, replies: Replies) -> None:
        assert setup.wandb is not None
        self._setup = setup
        self._replies = replies
        self._folder = Path(setup.folder)
        self._defined: set[str] = set()
        self._pending: dict[str, list[Any]] = {}
        self._kept: list[Path] = []
        self._epoch = 0
        self._step = 0
        config = _used_config(read_yaml(self._folder / CONFIG))
        self._run_mode = str(config.get("mode", "train"))
        manifest = read_json(self._folder / MANIFEST)
        config |= {name: manifest[name] for name in _PROVENANCE if manifest.get(name)}
        config["goal"] = "maximize" if higher_is_better(setup.objective) else "minimize"
        if setup.trial is not None:
            config["trial"] = setup.trial
        self._run = self._start(setup.wandb, config)
        self._run.define_metric("epoch", hidden=True)
        replies.record("wandb", {"mode": self._mode, "url": self._run.url if self._mode == "online" else None})

    def _start(self, wanted: WandbSetup, config: dict[str, Any]) -> Any:
        self._mode: Literal["online", "offline"] = wanted.mode
        if wanted.mode == "online":
            before = set(self._run_folders(wanted.id))
            try:
                probe(server())
                return self._init(wanted, config, "online")
            except Exception as error:
                text = " ".join(str(error).split()) or type(error).__name__
                self._replies.warn("W&B", f"W&B goes offline for this run: {text[:300]}")
                self._mode = "offline"
                self._clear(wanted.id, before)
        return self._init(wanted, config, "offline")

    def _run_folders(self, run_id: str) -> list[Path]:
        return list((self._folder / "wandb").glob(f"run-*-{run_id}"))

    def _clear(self, run_id: str, before: set[Path]) -> None:
        """Forget an attempt to be online: W&B's service holds the id as taken, and an empty run would be synced."""
        ending = threading.Thread(target=wandb.teardown, args=(1,), daemon=True)
        ending.start()
        ending.join(_TEARDOWN_S)
        for folder in set(self._run_folders(run_id)) - before:
            shutil.rmtree(folder, ignore_errors=True)

    def _init(self, wanted: WandbSetup, config: dict[str, Any], mode: Literal["online", "offline"]) -> Any:
        return wandb.init(
            id=wanted.id,
            # A retried or resumed run must find its own id taken without failing.
            resume="allow",
            mode=mode,
            dir=self._folder,
            project=wanted.project,
            entity=wanted.entity,
            name=wanted.name,
            group=wanted.group,
            job_type=wanted.job_type,
            tags=wanted.tags or None,
            notes=wanted.notes,
            config=config,
            reinit="create_new",
            settings=wandb.Settings(**self._settings()),
        )

    def _settings(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "console": "off",
            "save_code": False,
            "disable_code": True,
            "disable_git": True,
            "disable_job_creation": True,
            "sync_tensorboard": False,
            "silent": True,
            "allow_val_change": True,
            "login_timeout": _INIT_S,
            "finish_timeout": _FINISH_S,
            "stop_fn": self._stop_button,
            "program": self._setup.argv[0] if self._setup.argv else "train.py",
            "x_save_requirements": False,
            "x_stats_pid": self._setup.pid,
            "x_stats_track_process_tree": True,  # the data loader's processes are part of the training
            # A cloud's metadata server would be asked for otherwise; nothing listens there.
            "x_stats_coreweave_metadata_base_url": "http://127.0.0.1:9",
        }
        if "WANDB_INIT_TIMEOUT" not in os.environ:
            wanted["init_timeout"] = _INIT_S
        # Older and newer versions know other settings, and refuse those they do not know.
        return {name: value for name, value in wanted.items() if name in wandb.Settings.model_fields}

    def _stop_button(self) -> None:
        self._replies.stop("the stop button was pressed in W&B")

    def on_resume(self, epoch: int) -> None:
        """Go on at the step after `epoch`."""
        self._epoch, self._step = epoch, epoch + 1

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Log the epoch's metrics and the pictures that were shown since the last."""
        values = {**event.metrics, **event.timings}
        self._define(values)
        self._epoch = event.epoch
        self._log(_finite(values), commit=True)
        return None

    def on_show(self, item: Picture | Table) -> None:
        """Log a table; keep a picture for the epoch's row."""
        if isinstance(item, Table):
            table = wandb.Table(columns=list(item.columns), data=[list(row) for row in item.rows])
            self._define([item.name], summary=None)
            self._log({item.name: table}, commit=False)
            return
        # The file goes when this returns, and W&B copies it only when its row is logged.
        kept = item.path.with_name(f"wandb-{item.path.name}")
        os.link(item.path, kept)
        self._kept.append(kept)
        caption = item.caption if item.epoch is None else f"epoch {item.epoch}: {item.caption}".removesuffix(": ")
        image = wandb.Image(str(kept), caption=caption or None, boxes=_boxes(item))
        self._pending.setdefault(item.name, []).append(image)

    def on_end(self, status: str, result: Result | None) -> None:
        """Log the result, hand over the weights, and end the run with its state."""
        run = self._run
        if self._pending:
            self._log({}, commit=False)
        manifest = read_json(self._folder / MANIFEST)
        dataset = manifest.get("dataset")
        run.summary["status"] = status
        if dataset is not None:
            run.config.update({"dataset_fingerprint": dataset}, allow_val_change=True)
        if status not in ("finished", "running"):
            run.tags = (*(run.tags or ()), status)
        if "error" in manifest:
            run.summary["error"] = manifest["error"]
        if result is not None:
            self._summarise(result)
            if self._mode == "online" or status != "pruned":
                self._hand_over(result, dataset)
        for name in _SAVED:
            if (self._folder / name).is_file():
                copy = Path(run.dir) / name  # `save` warns of links to files elsewhere
                shutil.copyfile(self._folder / name, copy)
                run.save(str(copy), base_path=run.dir, policy="end")
        run.finish(exit_code=EXIT_CODES.get(status, 1))

    def _summarise(self, result: Result) -> None:
        """`test/...` under their names; `val/...` there is the best of all epochs, and `best.val/...` of the best."""
        summary = self._run.summary
        metrics = _finite(result.metrics)
        summary.update({name: value for name, value in metrics.items() if name.startswith("test/")})
        summary["best"] = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        summary["objective"] = measured_objective(self._run_mode, self._setup.objective, result.metrics)
        summary["objective_value"] = result.objective if math.isfinite(result.objective) else None
        summary["best_epoch"] = result.best_epoch
        summary["epochs"] = result.epochs

    def _hand_over(self, result: Result, dataset: Any) -> None:
        """One artifact for each of best and last, referring to the files in the run folder without copying them."""
        for alias, path in result.weights.items():
            if not path.is_file() or self._run.job_type == "evaluate":
                continue
            metadata = {
                "dataset": dataset,
                "objective": measured_objective(self._run_mode, self._setup.objective, result.metrics),
                "objective_value": result.objective if math.isfinite(result.objective) else None,
                "best_epoch": result.best_epoch,
                "metrics": _finite(result.metrics) if alias == "best" else {},
            }
            artifact = wandb.Artifact(f"weights-{self._run.id}", type="model", metadata=metadata)
            artifact.add_file(str(path), policy="immutable", skip_cache=True)
            card = path.with_name(_MODEL_CARD)
            if card.is_file():
                artifact.add_file(str(card), skip_cache=True)
            self._run.log_artifact(artifact, aliases=[alias])

    def _define(self, names: Iterable[str], summary: str | None = "auto") -> None:
        for name in names:
            if name not in self._defined:
                self._defined.add(name)
                settings = {"summary": _summary_of(name)} if summary else {}
                self._run.define_metric(name, step_metric="epoch", **settings)

    def _log(self, values: Mapping[str, Any], *, commit: bool) -> None:
        step = max(self._epoch, self._step)
        self._run.log({"epoch": self._epoch, **values, **self._pending}, step=step, commit=commit)
        self._step = step + 1 if commit else step
        self._pending = {}
        for path in self._kept:
            path.unlink()
        self._kept = []


def _used_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what the run does not use: other modes' sections and empty ones."""
    unused = {"export", "check"} - {str(config.get("mode"))}
    return {name: value for name, value in config.items() if value is not None and name not in unused}


def _summary_of(name: str) -> str:
    """What W&B's summary holds of a metric: its best where one value is better, else its mean or its last."""
    if name.split("/")[0] in ("perf", "time"):
        return "mean"
    if name.rsplit("/", 1)[-1].startswith(("lr", "learning_rate")):
        return "last"
    return "max" if higher_is_better(name) else "min"


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Undefined values are left out: W&B draws NaN as a point."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _boxes(picture: Picture) -> dict[str, Any] | None:
    """Detections in W&B's own form, which its pages draw over the picture and filter by score."""
    if not picture.boxes:
        return None
    labels = sorted({label for *_, label in picture.boxes})
    layers: dict[str, Any] = {}
    for x1, y1, x2, y2, score, label in picture.boxes:
        missed = math.isnan(score)
        box = {
            "position": {"minX": x1, "minY": y1, "maxX": x2, "maxY": y2},
            "domain": "pixel",
            "class_id": labels.index(label),
            "box_caption": label if missed else f"{label} {score:.2f}",
            "scores": {} if missed else {"score": score},
        }
        name = _LAYERS.get(label.partition(" ")[0], "predictions")
        layers.setdefault(name, {"box_data": [], "class_labels": dict(enumerate(labels))})["box_data"].append(box)
    return layers
