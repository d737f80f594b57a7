"""Where the metrics of a run go. `jsonl.py` is always on; the others by the `tracker` group.

A tracker is a core.interfaces.Callback. TensorBoard and W&B run in a process of their own (`process_main.py`), to which
`process.py` passes on each event: what they import, wait for or break on never reaches the training.
"""

import logging
from typing import TYPE_CHECKING

from watchme.config.schema import RunConfig, TrackerConfig
from watchme.core.interfaces import Callback

if TYPE_CHECKING:  # the tracking process does without what it imports
    from watchme.run.run_dir import RunFolder

log = logging.getLogger(__name__)


def uses_wandb(tracker: TrackerConfig) -> bool:
    """Whether the config asks for W&B."""
    return tracker.wandb and tracker.mode != "disabled"


def start_trackers(config: RunConfig, folder: "RunFolder") -> list[Callback]:
    """Start the trackers that the config names; none of them can fail a run."""
    tracker = config.tracker
    wandb = uses_wandb(tracker)
    if not (tracker.tensorboard or wandb):
        return []
    from watchme.tracking.process import TrackingProcess
    from watchme.tracking.setup import make_setup

    try:
        return [TrackingProcess(make_setup(config, folder, wandb=wandb), folder)]
    except Exception as error:  # e.g. no process can be started: the training does not depend on it
        log.warning("No tracking besides metrics.jsonl: %s: %s", type(error).__name__, error)
        return []
