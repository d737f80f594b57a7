"""What a W&B project holds, as far as its pages must know: metric names, pictures, and sweeps with their trials."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from watchme.core.metric_names import higher_is_better
from watchme.tracking.curves import CHARTS
from watchme.tracking.setup import STEP_METRICS

# Newer runs are read first; the names of more do not differ.
_RUNS = 500
_MEDIA = ("image-file", "images/separated", "images")
# For a project without runs: what both engines measure.
_EXPECTED = (
    *(f"{split}/{name}" for split in ("val", "test") for name in ("map50", "map50_95", "precision", "recall", "f1")),
    *(f"{split}/{name}" for split in ("val", "test") for name in ("map", "rank1", "rank5", "minp")),
    *("train/loss", "train/box_loss", "train/cls_loss", "train/softmax_loss", "train/triplet_loss", "train/accuracy"),
    *("perf/images_per_s", "perf/data_wait_share", "perf/gpu_utilisation", "perf/gpu_memory_gb", "time/epoch_s"),
    *STEP_METRICS,
)
_EXPECTED_PICTURES = ("test/detections", "test/ranked", "val/ranked")


@dataclass
class Study:
    """A sweep's study, as its runs tell it.

    Attributes:
        name: The study's, which is the W&B group of its runs.
        objective: Metric that it optimises.
        parameters: Keys in W&B's config of what the sweep varies, e.g. `optimizer.lr`, `choices.augmentation`.
        statuses: Run id -> finished, pruned, failed, interrupted or killed.
    """

    name: str
    objective: str = ""
    parameters: list[str] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)

    @property
    def maximize(self) -> bool:
        """Whether a greater objective is better."""
        return higher_is_better(self.objective)


@dataclass
class Contents:
    """Names of what the runs of a project logged, sorted.

    Attributes:
        metrics: Canonical names of numbers.
        pictures: Canonical names of images.
        charts: Keys of the tables behind W&B's own charts, e.g. `charts/test/f1_table`.
        studies: By name.
        runs: How many runs were read.
    """

    metrics: list[str]
    pictures: list[str]
    charts: list[str] = field(default_factory=list)
    studies: dict[str, Study] = field(default_factory=dict)
    runs: int = 0

    def of(self, *beginnings: str) -> list[str]:
        """Metrics that begin with one of these, losses left out."""
        return [name for name in self.metrics if name.startswith(beginnings) and not name.endswith("loss")]

    @property
    def losses(self) -> list[str]:
        """Losses of an epoch, those of training first; `train/loss` is the sum of its parts."""
        found = [name for name in self.metrics if name.endswith("loss") and not name.startswith("step/")]
        return sorted(found, key=lambda name: (name != "train/loss", not name.startswith("train/"), name))


def expected() -> Contents:
    """Of a project without runs."""
    charts = [f"charts/test/{name}_table" for name in sorted(CHARTS)]
    return Contents(sorted(_EXPECTED), sorted(_EXPECTED_PICTURES), charts)


def read_contents(runs: Iterable[Any]) -> Contents:
    """Gather names from runs of W&B's public API, the newest first; what is expected where there is none.

    Args:
        runs: Each with `id`, `config` and `summary_metrics`.
    """
    metrics: set[str] = set()
    pictures: set[str] = set()
    charts: set[str] = set()
    studies: dict[str, Study] = {}
    count = 0
    for run in itertools.islice(runs, _RUNS):
        count += 1
        summary = run.summary_metrics
        for name, value in summary.items():
            if "/" not in name:
                continue
            if isinstance(value, Mapping) and "_type" in value:
                if value["_type"] in _MEDIA:
                    pictures.add(name)
                elif name.startswith("charts/"):
                    charts.add(name)
            elif isinstance(value, (int, float, Mapping)):  # a mapping: its min, max, mean or last
                metrics.add(name)
        _add_trial(studies, run, summary)
    if not count:
        return expected()
    return Contents(sorted(metrics), sorted(pictures), sorted(charts), dict(sorted(studies.items())), count)


def _add_trial(studies: dict[str, Study], run: Any, summary: Mapping[str, Any]) -> None:
    trial = run.config.get("trial")
    if not isinstance(trial, Mapping) or "study" not in trial:
        return
    study = studies.setdefault(str(trial["study"]), Study(str(trial["study"])))
    study.objective = study.objective or str(summary.get("objective") or run.config.get("objective") or "")
    study.parameters += [name for name in trial.get("parameters") or [] if name not in study.parameters]
    study.statuses[str(run.id)] = str(summary.get("status", "running"))
