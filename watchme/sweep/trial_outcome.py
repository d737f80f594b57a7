"""The run of a trial: what a slot is given to run, and how the run ended."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchme.core.errors import ConfigError, WatchmeError

_INTERRUPTED = 130


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs."""

    number: int  # its number in the study
    trial_id: int  # the id that the storage gave it
    params: Mapping[str, Any]  # the drawn parameters
    error: Exception | None = None  # what the hook raised, if it did: the trial cannot run


@dataclass(frozen=True)
class Outcome:
    """How a trial's run ended."""

    values: Sequence[float] = ()  # objectives; empty where there are none
    reason: str = ""  # why it failed; empty if it did not
    traceback: str = ""  # where it failed
    lost: bool = False  # whether it was ended from outside (Ctrl-C, a node that went away): it does not count


def failure(error: BaseException) -> Outcome:
    """The outcome of a run that ended with an error."""
    interrupted = isinstance(error, WatchmeError) and error.exit_code == _INTERRUPTED
    if interrupted or isinstance(error, KeyboardInterrupt):
        return Outcome(reason="interrupted", lost=True)
    text = str(error).strip()
    head = text if isinstance(error, WatchmeError) else f"{type(error).__name__}: {text}"
    if isinstance(error, ConfigError):
        head = "; ".join(" ".join(str(problem).split()) for problem in error.problems)
    if "out of memory" in text.lower() and not head.startswith("out of memory"):
        head = f"out of memory: {head}"
    return Outcome(reason=head, traceback="".join(traceback.format_exception(error)))
