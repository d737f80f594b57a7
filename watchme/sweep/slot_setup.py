"""The slots of a sweep: in this process, in worker processes, or behind a Hydra launcher."""

import os
from collections.abc import Sequence

from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from watchme.core.errors import ConfigError, Problem
from watchme.core.liveness import this_process
from watchme.core.resources import available_cores
from watchme.sweep.gpus import assign, environment, usable_gpus, visible_gpus
from watchme.sweep.plan import Plan
from watchme.sweep.slots import InProcess, Slot, WorkerProcess


def make_slots(plan: Plan, launcher: Launcher) -> Sequence[Slot]:
    """Make `n_jobs` slots, each with its GPU if there are any.

    Raises:
        ConfigError: If trials that run at the same time would share a process, or a GPU without need.
    """
    settings = plan.settings
    count = settings.n_jobs
    if plan.config.hydra.runtime.choices.get("hydra/launcher") != "basic":
        return _launcher_slots(plan, launcher)
    processes = settings.processes if settings.processes is not None else count > 1
    if not processes:
        if count > 1:
            expected = "one process runs one trial at a time; leave it null, or set hydra.sweeper.n_jobs=1"
            raise ConfigError([Problem("hydra.sweeper.processes", expected, "false")])
        return [InProcess(launcher, plan.config, capture=settings.console != "trials")]
    found = usable_gpus(settings.gpus) if plan.typed.train.device != "cpu" else []
    # Slots on the CPU share its cores; more threads than cores are slower than fewer.
    threads = {"OMP_NUM_THREADS": str(max(1, available_cores() // count))}
    shared = {} if found or "OMP_NUM_THREADS" in os.environ else threads
    me = this_process()
    return [
        WorkerProcess(plan.folder, f"{me['host']}-{me['pid']}-slot{slot}", {**shared, **environment(gpu)})
        for slot, gpu in enumerate(assign(found, count))
    ]


def _launcher_slots(plan: Plan, launcher: Launcher) -> Sequence[Slot]:
    """Slots that each launch one job at a time. Slurm gives a job its GPUs; on this machine they are assigned here."""
    kind, count = type(launcher).__name__, plan.settings.n_jobs
    on_gpu = plan.typed.train.device != "cpu"
    gpus = visible_gpus(plan.settings.gpus) if on_gpu and kind != "SlurmLauncher" else []
    if kind == "JoblibLauncher" and gpus and count > 1:
        advice = (
            f"joblib reuses its processes, and in each of them every trial would be on GPU {gpus[0]}. "
            f"hydra.sweeper.n_jobs={count} without a launcher gives each trial a GPU; train.device=cpu needs none"
        )
        raise ConfigError([Problem("hydra/launcher", advice, "joblib")])
    remote = "launcher.ray.remote.num_gpus"
    cluster = OmegaConf.select(plan.config.hydra, "launcher.ray.init.address") is not None
    if kind == "RayLauncher" and (gpus or (cluster and on_gpu)) and OmegaConf.select(plan.config.hydra, remote) is None:
        advice = "Ray gives a trial no GPU of its own unless asked: set 1, or a part such as 0.5, or 0 for the CPU"
        raise ConfigError([Problem(f"hydra.{remote}", advice, "null")])
    # The jobs of submitit's LocalLauncher are new processes of this machine.
    assigned = assign(gpus if kind == "LocalLauncher" and count > 1 else [], count)
    return [
        InProcess(
            launcher,
            plan.config,
            capture=False,
            extra=[f"++hydra.job.env_set.{name}='{value}'" for name, value in environment(gpu).items()],
        )
        for gpu in assigned
    ]
