"""Hydra's plugin class of the sweeper. Imported at every start, so it imports nothing heavy."""

import gc
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class WatchmeSweeper(Sweeper):
    """The class that `conf/hydra/sweeper/watchme.yaml` names; `sweep.py`, which does the work, is imported lazily."""

    def __init__(self, **settings: Any) -> None:
        self.settings = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes to a sweeper."""
        self.context = hydra_context
        self.task = task_function
        self.composed = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep of the overrides of a command line, or its trials where this process is a worker."""
        gc.enable()  # which `cli.main` turned off while the config is composed
        from watchme.sweep.sweep import start

        return start(self.settings, self.composed, self.context, self.task, arguments)


def register() -> None:
    """Register the plugin with Hydra."""
    Plugins.instance().register(WatchmeSweeper)
