"""A pruned search with every tracker on: W&B, TensorBoard and reports hold the numbers of each trial."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.conftest import Swept
from tracking.equal import assert_equal_everywhere
from tracking.wandb_file import WandbFile
from watchme.report.index_page import write_index


@pytest.mark.slow
def test_six_trials_are_found_everywhere(sweep: Callable[..., Swept], tmp_path: Path) -> None:
    folder = tmp_path / "s"
    done = sweep(
        *(folder, "sweeper=standin_tune", "hydra.sweeper.n_trials=6", "hydra.sweeper.seed=1", "train.epochs=9"),
        *("tracker=all", "tracker.mode=offline"),
    )
    assert done.code == 0, done.stderr
    assert set(done.states) == {"COMPLETE", "PRUNED"}
    assert sum(done.states.values()) == 6
    study = json.loads((folder / "study.json").read_text())["study"]
    for trial in done.trials:
        run = folder / str(trial.number)
        assert assert_equal_everywhere(run) == len(trial.intermediate_values)
        saved = WandbFile(run)
        assert saved.run.run_group == study
        assert saved.config["trial"]["number"] == trial.number
        assert saved.exit_code == 0
        assert ("pruned" in saved.tags) == (trial.state.name == "PRUNED")
        assert len(list(run.glob("wandb/*run-*/*.wandb"))) == 1
    write_index(tmp_path)
    page = (tmp_path / "index.html").read_text()
    for trial in done.trials:
        assert f"s/{trial.number}/report.html" in page
    assert "s/report/index.html" in page
