"""Folders of runs, written by driving the house's own callbacks."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tracking.made_up import Tracked, make_config, make_trial
from watchme.core.interfaces import EpochEvent, Result, Table
from watchme.core.metric_names import measured_objective
from watchme.report.index_page import write_index

OVERRIDES = ["optimizer=adamw", "optimizer.lr=0.001"]


def add_evaluation(root: Path, name: str, weights: Path) -> Tracked:
    """An evaluation of weights on the test split."""
    config = replace(make_config(), mode="evaluate", checkpoint=str(weights))
    run = Tracked.begin(root / name, config)
    result = Result({"test/map50": 0.9, "test/f1": 0.8}, 0.9)
    objective = measured_objective("evaluate", config.objective, result.metrics)
    run.record.write_summary(objective, "finished", result)
    run.record.close("finished", result)
    run.session.end("finished", result)
    return run


def add_run(root: Path, name: str, lr: float, status: str = "finished", trial: int | None = None) -> Tracked:
    """A run with curves, pictures, a table, a fallback, and what Hydra writes."""
    config = make_config()
    config = replace(config, optimizer=replace(config.optimizer, lr=lr))
    if trial is not None:
        config = replace(config, trial=make_trial(root / "study.db", "my_study", trial))
    run = Tracked.begin(root / name, config, OVERRIDES)
    hydra = {
        "overrides": {"task": OVERRIDES},
        "runtime": {
            "choices": {"optimizer": "adamw", "scheduler": "cosine", "hydra/launcher": "basic"},
            "config_sources": [{"provider": "main", "path": str(root / "conf")}],
        },
    }
    (run.folder / ".hydra").mkdir()
    (run.folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    run.session.emit(EpochEvent(0, 5, {"val/map50": 0.01}))
    run.epochs()
    run.picture("test/ranked", boxes=())
    run.session.show(Table("test/per_image", ("image", "ap"), (("<a>.jpg", 0.5), ("b.jpg", 0.25))))
    run.session.fallback("train.precision=bf16 is <slow> here; fp32 is used")
    if status == "failed":
        try:
            raise ZeroDivisionError("division by zero")
        except ZeroDivisionError as error:
            run.end(status, None, error)
    else:
        run.end(status, run.result())
    return run


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, a failed one, a sweep of two trials with its report, and the index."""
    root = tmp_path_factory.mktemp("outputs")
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").write_text("defaults: [_self_, {optimizer: sgd}, {scheduler: cosine}]")
    add_run(root, "one", 0.001)
    add_run(root, "two", 0.01)
    add_run(root, "broken", 0.1, "failed")
    add_run(root, "sweep/0", 0.001, trial=0)
    add_run(root, "sweep/1", 0.002, "pruned", trial=1)
    (root / "sweep" / "report").mkdir()
    (root / "sweep" / "report" / "index.html").write_text("<p>a sweep</p>")
    (root / "not_a_run").mkdir()
    (root / "not_a_run" / "run.json").write_text("{ half")
    write_index(root)
    return root
