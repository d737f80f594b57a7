"""Heartbeats: how a process notices that another machine no longer runs its trial."""

import time
from typing import Any

# System attributes of a trial: the process that runs it, and how many heartbeats it has stored.
OWNER = "watchme:owner"
BEAT = "watchme:beat"


class Heartbeats:
    """Notices trials whose count of heartbeats has not grown for `grace_s`. Only the clock of this machine is used."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._seen: dict[int, tuple[Any, float]] = {}

    def has_stopped(self, trial: int, beat: Any) -> bool:
        """Whether `beat` has stayed the same for `grace_s`, since this process first saw it."""
        now = time.monotonic()
        last, since = self._seen.get(trial, (object(), now))
        if last != beat:
            self._seen[trial] = (beat, now)
            return False
        return now - since > self.grace_s
