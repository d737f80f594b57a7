"""The sweep through Hydra's launchers: pruning and budget hold wherever a trial runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sweep.conftest import PROJECT, Swept
from sweep.servers import slurm
from watchme.cli import command_line as cli
from watchme.cli import resolvers

Sweep = Callable[..., Swept]
SEARCH = (
    *("sweeper=standin_tune", "train.epochs=9", "hydra.sweeper.seed=1", "hydra.sweeper.n_jobs=2"),
    *("hydra.sweeper.n_trials=5", "model.epoch_s=0.05", "hydra.sweeper.report=false"),
)


def check(done: Swept) -> None:
    """Five trials, some pruned, in processes other than the sweep's."""
    assert done.code == 0, done.stderr
    assert set(done.states) == {"COMPLETE", "PRUNED"}
    assert len(done.trials) == 5
    for trial in done.trials:
        assert trial.intermediate_values
        status = "pruned" if trial.state.name == "PRUNED" else "finished"
        assert done.manifest(trial.number)["status"] == status


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_local_launchers(launcher: str, sweep: Sweep, tmp_path: Path) -> None:
    pytest.importorskip("joblib" if launcher == "joblib" else "submitit")
    done = sweep(tmp_path / "s", *SEARCH, f"hydra/launcher={launcher}")
    check(done)
    assert len({done.manifest(number)["pid"] for number in range(5)}) >= 2


@pytest.mark.slow
def test_submitit_gives_each_slot_its_gpu(sweep: Sweep, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    done = sweep(
        tmp_path / "s",
        *("optimizer.lr=0.01,0.02", "hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2"),
        *("hydra.sweeper.gpus=[4,6]", "train.device=auto", "hydra.sweeper.report=false"),
    )
    assert done.code == 0, done.stderr
    assert {done.manifest(number)["visible_gpus"] for number in range(2)} == {"4", "6"}


@pytest.mark.slow
def test_on_a_slurm_of_one_node(sweep: Sweep, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with slurm() as variables:
        done = sweep(
            tmp_path / "s",
            *(*SEARCH, "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null"),
            *("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=0"),
            **variables,
        )
        check(done)


def test_the_slurm_preset_asks_sbatch_for_the_right_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    for name in ("srun", "sbatch"):  # submitit looks whether they are there
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    resolvers.register()
    with initialize_config_dir(str(PROJECT / "conf")):
        config = compose(
            "config",
            ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", f"hydra.sweep.dir={tmp_path}", "hydra.job.num=0"],
            return_hydra_config=True,
        )
    HydraConfig.instance().set_config(config)
    target = config.hydra.launcher._target_
    launcher = instantiate(config.hydra.launcher, _execution_whitelist_=target)
    launcher.config = config
    texts: list[str] = []

    def map_array(executor: Any, *_: Any) -> list[Any]:
        texts.append(executor._executor._make_submission_file_text("command", "one"))
        return []

    monkeypatch.setattr(submitit.AutoExecutor, "map_array", map_array)
    launcher.launch([["optimizer.lr=0.1"]], 0)
    asked = {line.removeprefix("#SBATCH --") for line in texts[0].splitlines() if line.startswith("#SBATCH")}
    assert {
        *("partition=gpu", "time=1440", "mem=32GB", "cpus-per-task=8", "gpus-per-node=1"),
        *("nodes=1", "ntasks-per-node=1", "signal=USR2@120", "job-name=watchme-train"),
    } <= asked
    assert f"output={tmp_path}/.submitit/%j/%j_0_log.out" in asked


def test_the_ray_preset_fits_the_launcher() -> None:
    """Ray itself is not needed to see that the preset has the launcher's arguments."""
    preset: Any = OmegaConf.load(PROJECT / "conf" / "hydra" / "launcher" / "ray.yaml")
    assert preset._target_ == "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
    assert set(preset) == {"_target_", "ray"}
    assert json.loads(json.dumps(OmegaConf.to_container(preset.ray.remote)))["num_cpus"] == 1


def test_a_launcher_that_is_not_installed_is_said_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli._LAUNCHERS, "ray", ("hydra_plugins.hydra_no_such_launcher", "ray"))
    with pytest.raises(cli.ConfigError, match=r"uv sync --extra ray"):
        cli.prepare(["-m", "hydra/launcher=ray"])
