"""Fills the compiler's cache while other steps run, so that the step that times it need not wait."""

import time

from gpu.step import Step
from gpu.steps.compile import CASES, compiled


def run(step: Step) -> None:
    """Compile each case once; its time is that on a busy machine."""
    for mode, batch in CASES:
        with step.part(f"compile {mode}, batch {batch}"):
            start = time.monotonic()
            loop = compiled(step.setting, mode, batch)
            loop.train_epoch(1)
            step.fact(f"compile_s_{mode}_{batch}", round(time.monotonic() - start, 1))
