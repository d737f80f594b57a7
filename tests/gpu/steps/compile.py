"""Images a second with torch.compile: compiled beside other steps, measured once these have ended."""

import time
from typing import Any

import psutil

from gpu.bench import Variant, our_trainer, rate, warm_up
from gpu.step import Step

# CUDA graphs matter most where a step is bound by its launches.
_MODES = ("reduce-overhead", "default")
_BATCH = 64
_STEPS = 60


def run(step: Step) -> None:
    """Compile the model in each mode, in bf16, wait for a quiet machine, and time the steps.

    The first mode compiles beside the other steps; the second one finds its kernels in the cache.
    """
    rows: list[dict[str, Any]] = []
    for mode in _MODES:
        with step.part(f"torch.compile {mode}"):
            start = time.monotonic()
            variant = Variant(_BATCH, ("train.precision=bf16", f"train.compile={mode}"))
            trainer = our_trainer(step.setting, variant)
            warm_up(trainer, 6)
            step.fact(f"compile_s_{mode}", round(time.monotonic() - start, 1))
            _wait_until_alone()
            shown = {"engine": "watchme", "batch": _BATCH, "recipe": variant.recipe}
            rows.append({**shown, "overrides": list(variant.overrides), **rate(trainer, _STEPS, 10, _BATCH)})
            step.fact("rows", rows)


def _wait_until_alone() -> None:
    """Until the steps that the proof has started beside this one have ended."""
    this = psutil.Process()
    while any(_is_step(process) for process in this.parent().children() if process.pid != this.pid):
        time.sleep(0.5)


def _is_step(process: psutil.Process) -> bool:
    try:
        return "--step" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
