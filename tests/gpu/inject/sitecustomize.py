"""Changes that only the proof makes to a `train.py` process; Python imports this file at its start.

PROOF_MEMORY_FRACTION   share of the GPU's memory that the process may have, to run out of it at will
PROOF_ONE_CARD          two training processes on one GPU, which talk by gloo: NCCL refuses two ranks of one card
"""

import os
from typing import Any

if fraction := os.environ.get("PROOF_MEMORY_FRACTION"):
    import torch

    # Queued until the process uses CUDA: most do not.
    torch.cuda._lazy_call(  # type: ignore[no-untyped-call]
        lambda: torch.cuda.set_per_process_memory_fraction(float(fraction))
    )

if os.environ.get("PROOF_ONE_CARD"):
    import torch
    import torch.distributed

    from watchme.core import device as runtime

    _init = torch.distributed.init_process_group

    def _gloo(*_: Any, **options: Any) -> None:
        options.pop("backend", None)
        options.pop("device_id", None)
        _init("gloo", **options)

    torch.distributed.init_process_group = _gloo

    _all_gather = torch.distributed.all_gather

    def _gather_on_cpu(parts: list[torch.Tensor], value: torch.Tensor, **options: Any) -> None:
        copies = [part.cpu() for part in parts]
        _all_gather(copies, value.cpu(), **options)
        for part, copy in zip(parts, copies, strict=True):
            part.copy_(copy)

    torch.distributed.all_gather = _gather_on_cpu  # type: ignore[assignment]

    def _one_card(wanted: Any, processes: int | None, fallback: Any = None) -> list[torch.device]:
        return [torch.device("cuda:0")] * (processes or 1)

    runtime.choose_devices = _one_card
