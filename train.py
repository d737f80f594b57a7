"""Train or evaluate one model: compose (Hydra), validate, route to its engine, return the objective.

`python train.py --help` lists the options; README.md shows the way from there.
"""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from watchme.cli import main as cli
from watchme.config.validation import validate
from watchme.core.errors import WatchmeError
from watchme.run.runner import run
from watchme.sweep.trial_values import returned


@hydra.main(config_path="conf", config_name="config")
@cli.reports_errors
def main(composed: DictConfig) -> float | list[float]:
    """Run one job; its objective is what a sweep optimises."""
    config = validate(composed)
    job = HydraConfig.get()
    return returned(config, run(config, composed, Path(job.runtime.output_dir), list(job.overrides.task)))


if __name__ == "__main__":
    try:
        sys.argv[1:] = cli.prepare(sys.argv[1:])
    except WatchmeError as error:
        cli.fail(error)
    main()
