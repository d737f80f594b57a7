"""The values that a run returns to the sweeper. Imported at every start, so it imports nothing heavy."""

import math

from watchme.config.schema import RunConfig
from watchme.core.interfaces import Result
from watchme.core.metric_names import measured_objective


def returned(config: RunConfig, result: Result) -> float | list[float]:
    """The objective of a run; if it is a trial of a sweep with several objectives, the value of each."""
    names = config.trial.objectives if config.trial is not None else []
    if not names:
        return result.objective
    values = [
        result.objective
        if name == config.objective
        else float(result.metrics.get(measured_objective("train", name, result.metrics), math.nan))
        for name in names
    ]
    return values if len(values) > 1 else values[0]
