"""A real sweep with real training on the smallest models, both engines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sweep.conftest import PROJECT, states, trials_of

pytestmark = pytest.mark.slow
OSNET = (
    *("sweeper=osnet_tune", "model=osnet_x0_25", "train.epochs=4", "hydra.sweeper.n_trials=8"),
    *("dataset.demo.identities=24", "dataset.demo.cameras=3", "dataset.height=64", "dataset.width=32"),
    "train.sampler=random",
    *("train.eval_every=1", "dataset.val_identities=0.25", "train.workers=0", "hydra.sweeper.seed=1"),
)
# So small a YOLO finds few people in so few epochs: those with epochs to spare are pruned.
YOLO = (
    *("sweeper=yolo_tune", "model=yolo11n", "train.epochs=1,5", "hydra.sweeper.n_trials=5", "dataset.image_size=64"),
    *("hydra.sweeper.pruner=threshold", "hydra.sweeper.pruner_options={lower: 0.9}"),
    *("dataset.demo.identities=12", "dataset.demo.cameras=3", "train.workers=0", "evaluation.plots=false"),
    *("hydra.sweeper.seed=1", "evaluation.examples=0"),
)


def sweep(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the project's own train.py."""
    return subprocess.run(
        [sys.executable, "train.py", "-m", f"hydra.sweep.dir={folder}", *arguments],
        cwd=PROJECT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.parametrize(("command", "objective"), [(OSNET, "val/map"), (YOLO, "val/map50_95")], ids=["osnet", "yolo"])
def test_a_real_search(command: tuple[str, ...], objective: str, tmp_path: Path) -> None:
    done = sweep(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    trials = trials_of(tmp_path)
    found = states(trials)
    assert set(found) == {"COMPLETE", "PRUNED"}, done.stdout
    assert sum(found.values()) == (8 if objective == "val/map" else 5)
    for trial in trials:
        run = json.loads((tmp_path / str(trial.number) / "run.json").read_text())
        assert run["status"] == ("pruned" if trial.state.name == "PRUNED" else "finished")
        assert (tmp_path / str(trial.number) / "weights" / "best.pt").is_file()
        lines = (tmp_path / str(trial.number) / "metrics.jsonl").read_text().splitlines()
        logged = {line["epoch"]: line[objective] for line in map(json.loads, lines) if line.get(objective) is not None}
        logged.pop(0, None)  # the evaluation before training
        assert trial.intermediate_values == pytest.approx(logged)
        config = yaml.safe_load((tmp_path / str(trial.number) / "config.yaml").read_text())
        assert config["optimizer"]["name"] == trial.params["optimizer"]
        assert config["optimizer"]["lr"] == trial.params["optimizer.lr"]
    assert (tmp_path / "report" / "index.html").is_file()
    before = len(trials)
    again = sweep(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert len(trials_of(tmp_path)) == before
