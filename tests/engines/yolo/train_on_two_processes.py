"""Run train.py with the multi-GPU trainer on two CPU processes: `python train_on_two_processes.py ARGUMENT...`."""

import runpy
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]

if __name__ == "__main__":
    sys.path[:1] = [str(PROJECT), str(PROJECT / "tests" / "engines")]
    from watchme.engines.yolo import trainer
    from yolo.cpu_ddp import CpuDdp

    trainer.WatchmeTrainer = CpuDdp  # type: ignore[misc]
    sys.argv[0] = str(PROJECT / "train.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
