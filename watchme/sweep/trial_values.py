"""What a run hands to the sweeper. Imported by train.py: nothing heavy here."""

import math

from watchme.config.schema import RunConfig
from watchme.core.interfaces import Result


def returned(config: RunConfig, result: Result) -> float | list[float]:
    """The run's objective; each of the sweep's objectives where the run is a trial of several."""
    names = config.trial.objectives if config.trial is not None else []
    if not names:
        return result.objective
    values = [
        result.objective if name == config.objective else float(result.metrics.get(name, math.nan)) for name in names
    ]
    return values if len(values) > 1 else values[0]
