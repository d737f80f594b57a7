"""Which slots a sweep has: in this process, in worker processes, or behind a Hydra launcher."""

import os
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.plugins.launcher import Launcher

from watchme.core.errors import ConfigError, Problem
from watchme.sweep import gpus
from watchme.sweep import process_owner as owner
from watchme.sweep.plan import Plan
from watchme.sweep.workers import InProcess, Slot, WorkerProcess

# Launchers whose jobs are new processes of this machine. Others get their GPUs from a scheduler, or reuse processes,
# in which CUDA has already seen another slot's GPU.
_LOCAL_PROCESSES = ("LocalLauncher",)


def make_slots(plan: Plan, launcher: Launcher) -> Sequence[Slot]:
    """Make `n_jobs` slots, each with its GPU where there are any.

    Raises:
        ConfigError: If several trials are to run in this one process.
    """
    settings = plan.settings
    count = settings.n_jobs
    if not isinstance(launcher, BasicLauncher):
        local = type(launcher).__name__ in _LOCAL_PROCESSES
        shared = gpus.share(gpus.visible(settings.gpus) if local else [], count)
        return [
            InProcess(launcher, plan.config, plan.folder, capture=False, extra=_visible(gpu) if count > 1 else ())
            for gpu in shared
        ]
    processes = settings.processes if settings.processes is not None else count > 1
    if not processes:
        if count > 1:
            expected = "one process runs one trial at a time; leave it null, or set hydra.sweeper.n_jobs=1"
            raise ConfigError([Problem("hydra.sweeper.processes", expected, "false")])
        return [InProcess(launcher, plan.config, plan.folder, capture=settings.console != "trials")]
    found = gpus.visible(settings.gpus)
    # Slots on the processor share its cores; more threads than cores are slower than fewer.
    threads = None if found else max(1, (os.cpu_count() or 1) // count)
    me = owner.me()
    return [
        WorkerProcess(plan.folder, f"{me['host']}-{me['pid']}-slot{slot}", gpu, threads)
        for slot, gpu in enumerate(gpus.share(found, count))
    ]


def _visible(gpu: str | None) -> list[str]:
    return [] if gpu is None else [f"++hydra.job.env_set.CUDA_VISIBLE_DEVICES='{gpu}'"]
