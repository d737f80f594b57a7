"""The trainer's multi-GPU path on two CPU processes: all of it but the device and the backend (gloo for nccl)."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, RANK

from watchme.engines.yolo.trainer import WatchmeTrainer
from yolo.world import FAULT

PROCESSES = 2


class CpuDdp(WatchmeTrainer):
    """Says that it has two devices; the processes that ultralytics then starts meet over gloo."""

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        self.world_size = PROCESSES
        self.ddp = LOCAL_RANK == -1

    def _setup_ddp(self) -> None:
        torch.distributed.init_process_group("gloo", rank=RANK, world_size=self.world_size)

    def preprocess_batch(self, batch: Any) -> Any:
        """Have the fault that the environment asks for."""
        fault = os.environ.get(FAULT)
        if fault and RANK == 1 and self.epoch == 1:
            with contextlib.suppress(FileExistsError):
                (Path(self.save_dir).parent / "fault").touch(exist_ok=False)
            if fault == "out of memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if fault == "corrupt image":
                dataset, broken = self.train_loader.dataset, Path(self.save_dir).parent / "broken.jpg"
                broken.write_bytes(Path(dataset.im_files[0]).read_bytes()[:200])
                dataset.im_files = [str(broken)] * len(dataset.im_files)
            else:
                os.kill(os.getpid(), signal.Signals[fault])
        return super().preprocess_batch(batch)

    def _setup_train(self) -> None:
        parallel = torch.nn.parallel.DistributedDataParallel

        def on_cpu(module: torch.nn.Module, device_ids: object, **options: Any) -> torch.nn.Module:
            return parallel(module, **options)

        torch.nn.parallel.DistributedDataParallel = on_cpu  # type: ignore[assignment, misc]
        try:
            super()._setup_train()
        finally:
            torch.nn.parallel.DistributedDataParallel = parallel  # type: ignore[misc]
