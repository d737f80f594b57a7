"""mode=evaluate of a YOLO detector: a checkpoint on one split."""

import math
from pathlib import Path
from typing import cast

from watchme.core.errors import DataError
from watchme.core.interfaces import Job, Result
from watchme.engines.yolo import isolation
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.config_rules import required_splits
from watchme.engines.yolo.preparation import announce_workers, choose_device, prepare


def evaluate(job: Job) -> Result:
    """Evaluate a checkpoint on one split: evaluation.split, or test where there is one, or val."""
    isolation.isolate()
    from watchme.engines.yolo.validator import evaluate as evaluate_split

    config = cast(Config, job.config)
    isolation.allow_code_in_files(config.model.trust)
    device = choose_device(config.train.device, job.fallback)
    announce_workers(job, config, device)
    yaml, scan = prepare(job, config, required_splits(config), only_one=True)
    (split,) = scan.splits
    if not scan.splits[split]["boxes"]:
        raise DataError(f"the {split} split has no boxes, so it cannot be evaluated")
    assert config.checkpoint is not None
    found = evaluate_split(job, config, Path(config.checkpoint).expanduser(), yaml, split, device)
    objective = found.metrics.get(f"{split}/{config.objective.split('/', 1)[1]}", math.nan)
    return Result(found.metrics, objective, details={split: found.details})
