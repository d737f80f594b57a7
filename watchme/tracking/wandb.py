"""Weights & Biases: one W&B run for each training run, resumed runs included. Only process_main.py imports this.

Of W&B's automatics (code, git, jobs, crash reports) all but system metrics are off or replaced by our own, which know
the training rather than this process. What W&B writes lies in the run folder, and an offline run is uploaded later
with `wandb sync`.
"""

import contextlib
import math
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import wandb

from watchme.core.interfaces import Embedding, EpochEvent, Result, Shown, StepEvent, Stop, Table
from watchme.core.metric_names import higher_is_better, measured_objective
from watchme.io.files import read_yaml
from watchme.io.run_lookup import CONFIG, manifest_of
from watchme.run import provenance
from watchme.tracking.log_tail import LogTail
from watchme.tracking.messages import Replies
from watchme.tracking.setup import Setup
from watchme.tracking.tracker import Tracker
from watchme.tracking.wandb_alerts import Alerts
from watchme.tracking.wandb_artifacts import Artifacts, weights_used
from watchme.tracking.wandb_history import History, finite
from watchme.tracking.wandb_media import charts_of, images_of, table_of
from watchme.tracking.wandb_start import start_run
from watchme.tracking.wandb_view import existing_view, view_name, view_url

# W&B's own convention: 255 is a run that its user ended. A pruned trial did what it should.
EXIT_CODES = {"finished": 0, "pruned": 0, "interrupted": 255, "failed": 1, "killed": 255}
# Files of the run folder that W&B's Files tab shows.
_SAVED = ("train.log", "run.json", "traceback.txt")
# What a manifest tells of where a run is from, and the options of config groups by which runs are told apart.
_PROVENANCE = ("git", "command", "packages", "choices")
# Sections that a mode does not use, besides those that are null.
_UNUSED = {
    "train": ("export", "check", "tracker", "trial", "detector", "reid"),
    "evaluate": ("export", "check", "optimizer", "scheduler", "loss", "tracker", "trial"),
    "export": ("check", "optimizer", "scheduler", "loss", "augmentation", "tracker", "trial"),
    "search": ("export", "check", "optimizer", "scheduler", "loss", "augmentation", "tracker", "trial"),
    "check": ("export", "optimizer", "scheduler", "loss", "evaluation", "tracker", "trial"),
}


class WandbTracker(Tracker):
    """Logs config, metrics, pictures, tables, charts and weights of a run.

    The epoch is the axis of every metric but those within epochs, whose axis is `step`.

    Args:
        setup: What is known of the run.
        replies: Reports mode, address and the stop button to the training process.

    Raises:
        wandb.Error: If not even an offline run can be started.
    """

    def __init__(self, setup: Setup, replies: Replies) -> None:
        assert setup.wandb is not None
        self._setup, self._wanted, self._replies = setup, setup.wandb, replies
        self._folder = Path(setup.folder)
        self._defined: set[str] = set()
        self._pending: dict[str, Any] = {}
        self._pictures: set[Path] = set()
        self._epoch = 0
        self._config = read_yaml(self._folder / CONFIG)
        self._uses = weights_used(self._config)
        self._manifest = manifest_of(self._folder)
        self._diff = provenance.git_diff() if self._wanted.code else ""
        git = {**(self._manifest.get("git") or {}), "remote": provenance.git_remote() if self._wanted.code else None}
        self._run, mode = start_run(setup, self._sent_config(), git, replies.warn, self._stop_button)
        self._online = mode == "online"
        self._artifacts = Artifacts(self._run, self._online, setup, replies.warn)
        self._history = History(self._folder, self._wanted.id, self._log)
        self._tail = LogTail(self._folder / "train.log", self._history.logged.log) if self._wanted.console else None
        self._alerts = Alerts(self._wanted.alerts, setup.objective, self._wanted.name, self._alert)
        for axis in ("epoch", "step"):
            self._run.define_metric(axis, hidden=True)
        known = {"mode": mode, "url": self._run.url if self._online else None, "artifacts": self._artifacts.names()}
        replies.record("wandb", known)
        if self._online:
            self._link_view()

    def _sent_config(self) -> dict[str, Any]:
        mode = str(self._config.get("mode", "train"))
        unused = _UNUSED.get(mode, _UNUSED["search"])
        config = {name: value for name, value in self._config.items() if value is not None and name not in unused}
        config |= {name: self._manifest[name] for name in _PROVENANCE if self._manifest.get(name)}
        config["goal"] = "maximize" if higher_is_better(self._setup.objective) else "minimize"
        if self._setup.trial is not None:
            config["trial"] = self._setup.trial
        return {**config, "uses": self._uses} if self._uses else config

    def _link_view(self) -> None:
        """Link the run to the project's saved workspace, where there is one."""
        with contextlib.suppress(Exception):  # a link is worth no warning
            run = self._run
            name = view_name(run.entity, run.project)
            if existing_view(wandb.Api(), run.entity, run.project, name) is not None:
                url = view_url(run.project_url, name)
                run.summary["dashboard"] = url
                self._replies.record("wandb", {"dashboard": url})

    def _stop_button(self) -> None:
        self._replies.stop("the stop button was pressed in W&B")

    def _alert(self, title: str, text: str, level: str) -> None:
        self._run.alert(title, text, level=level)

    def on_resume(self, epoch: int) -> None:
        """Go on after `epoch`."""
        self._epoch, self._pending = epoch, {}
        if self._history.resume(epoch):
            text = f"W&B keeps its rows of the epochs after {epoch}, which are trained again; metrics.jsonl has the new"
            self._replies.warn("W&B rows", f"{text} ones")

    def on_step(self, event: StepEvent) -> None:
        """Log a point within an epoch."""
        self._define(event.metrics, axis="step")
        self._alerts.step(event.step, event.metrics.get("step/loss", 0.0))
        self._history.log_steps(event.step, event.metrics)
        self._copy_console()

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Log the epoch's metrics and the pictures that were shown since the last, once its checkpoint is written."""
        values = {**event.metrics, **event.timings}
        self._define(values)
        self._alerts.epoch(event.epoch, event.metrics)
        self._epoch = event.epoch
        pending, self._pending = self._pending, {}
        self._history.hold(event.epoch, {**finite(values), **pending})
        self._copy_console()
        return None

    def on_idle(self) -> None:
        """Log what has become certain, and what was printed."""
        self._history.release_if_saved()
        self._copy_console()

    def on_show(self, item: Shown) -> None:
        """Keep a picture, a table or a chart for the row of the epoch."""
        if isinstance(item, Table):
            self._pending |= charts_of(item) if item.chart else {item.name: table_of(item)}
        elif isinstance(item, Embedding):
            return  # TensorBoard's alone
        else:
            # The file goes when this returns, and W&B copies it only when its row is logged.
            kept = replace(item, path=item.path.with_name(f"wandb-{item.path.name}"))
            os.link(item.path, kept.path)
            self._pictures.add(kept.path)
            self._pending.setdefault(item.name, []).append(kept)
        self._define([item.name], summary=None)

    def on_end(self, status: str, result: Result | None) -> None:
        """Log the result, hand over the weights, and end the run with its state."""
        run, manifest = self._run, manifest_of(self._folder)
        dataset, error = manifest.get("dataset"), str(manifest.get("error", ""))
        self._history.end(whole=status in ("finished", "pruned", "refused"))
        if self._pending and result is not None:
            self._history.log({"epoch": self._epoch, **self._pending})
        self._alerts.end(status, result, error)
        run.summary["status"] = status
        if dataset is not None:
            run.config.update({"dataset_fingerprint": dataset}, allow_val_change=True)
        if status not in ("finished", "running"):
            run.tags = (*(run.tags or ()), status)
        if error:
            run.summary["error"] = error
        objective = self._setup.objective
        if result is not None:
            objective = measured_objective(str(self._config.get("mode", "train")), objective, result.metrics)
            self._summarise(result, objective)
        self._hand_over(status, result, dataset, objective)
        self._copy_console(rest=True)
        self._save_files()
        run.finish(exit_code=EXIT_CODES.get(status, 1))
        self._drop_pictures(set(self._pictures))

    def _summarise(self, result: Result, objective: str) -> None:
        """`test/...` under their names; `val/...` there is the best of all epochs, and `best.val/...` of the best."""
        summary = self._run.summary
        metrics = finite(result.metrics)
        summary.update({name: value for name, value in metrics.items() if name.startswith("test/")})
        summary["best"] = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        summary["objective"] = objective
        summary["objective_value"] = result.objective if math.isfinite(result.objective) else None
        summary["best_epoch"] = result.best_epoch
        summary["epochs"] = result.epochs

    def _hand_over(self, status: str, result: Result | None, dataset: Any, objective: str) -> None:
        """Log and use artifacts."""
        training = self._config.get("mode", "train") == "train"
        if self._wanted.dataset != "none" and dataset is not None:
            self._artifacts.use_dataset(self._wanted.dataset, self._config, dataset)
        self._artifacts.use_weights(self._uses)
        if not (self._wanted.weights and training):
            return
        if result is None:
            self._artifacts.log_last()
        elif (self._online or status != "pruned") and self._artifacts.log_weights(status, result, dataset, objective):
            self._run.summary["best_of_study_so_far"] = True

    def _save_files(self) -> None:
        folder = Path(self._run.dir)  # `save` warns of links to files elsewhere
        if self._diff:
            (folder / "diff.patch").write_text(self._diff, encoding="utf-8")
        for name in _SAVED:
            if (self._folder / name).is_file():
                shutil.copyfile(self._folder / name, folder / name)
        for name in ("diff.patch", *_SAVED):
            if (folder / name).is_file():
                self._run.save(str(folder / name), base_path=self._run.dir, policy="end")

    def _copy_console(self, *, rest: bool = False) -> None:
        """Copy new lines of train.log to W&B's Logs tab, which shows what is printed here."""
        if self._tail is not None and (text := self._tail.read(rest=rest)):
            print(text, end="")
            self._history.logged.log = self._tail.place
            self._history.save()

    def _define(self, names: Iterable[str], axis: str = "epoch", summary: str | None = "auto") -> None:
        for name in names:
            if name not in self._defined:
                self._defined.add(name)
                settings = {"summary": _summary_of(name)} if summary else {}
                self._run.define_metric(name, step_metric=axis, **settings)

    def _log(self, row: dict[str, Any], number: int) -> None:
        """Log a row, in which pictures are lists of them."""
        shown = {name: value for name, value in row.items() if isinstance(value, list)}
        images = {name: images_of(pictures) for name, pictures in shown.items()}
        self._run.log({**row, **images}, step=number, commit=True)
        self._drop_pictures([picture.path for pictures in shown.values() for picture in pictures])

    def _drop_pictures(self, paths: Collection[Path]) -> None:
        self._pictures -= set(paths)
        for path in paths:
            path.unlink(missing_ok=True)


def _summary_of(name: str) -> str:
    """What W&B's summary holds of a metric: its best where one value is better, else its mean or its last."""
    if name.split("/")[0] in ("perf", "time"):
        return "mean"
    if name.split("/")[0] == "step" or name.rsplit("/", 1)[-1].startswith(("lr", "learning_rate")):
        return "last"
    return "max" if higher_is_better(name) else "min"
