"""Latency of several formats, timed in turn, so that other load on the machine affects all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call."""

    median: float  # half of the calls are faster
    low: float  # a tenth of the calls are faster
    high: float  # a tenth of the calls are slower


def measure(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Latency]:
    """Time calls, each once a round, after three rounds of warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(_WARM_UP + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds = time.perf_counter() - start
            if number >= _WARM_UP:
                taken[name].append(seconds * 1e3)
    return {name: Latency(*map(float, np.percentile(times, (50, 10, 90)))) for name, times in taken.items()}
