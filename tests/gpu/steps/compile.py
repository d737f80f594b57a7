"""Images a second with torch.compile."""

from typing import Any

import torch

from gpu.bench import Variant, our_loop, rate
from gpu.setting import Setting
from gpu.step import Step

CASES = (("default", 64), ("reduce-overhead", 64), ("default", 256))


def run(step: Step) -> None:
    """Time each case, in bf16."""
    rows: list[dict[str, Any]] = []
    for mode, batch in CASES:
        with step.part(f"torch.compile {mode}, batch {batch}"):
            found = rate(compiled(step.setting, mode, batch), 60, 10, batch)
            rows.append({"engine": "watchme", "batch": batch, "recipe": "osnet_basic", "overrides": [mode], **found})
            step.fact("rows", rows)


def compiled(setting: Setting, mode: str, batch: int) -> Any:
    """A loop whose model is compiled for one batch size."""
    overrides = ("train.precision=bf16", "train.deterministic=false")
    loop: Any = our_loop(setting, Variant(batch, (*overrides, f"train.compile={mode}")))
    torch._dynamo.reset()
    return loop
