"""The run of a trial: what a slot is given to run, and how the run ended."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchme.core.errors import ConfigError, WatchmeError

_INTERRUPTED = 130


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs.

    Attributes:
        number: Its number in the study.
        trial_id: The id that the storage gave it.
        params: The drawn parameters.
        error: What the hook raised, if it did: the trial cannot run.
    """

    number: int
    trial_id: int
    params: Mapping[str, Any]
    error: Exception | None = None


@dataclass(frozen=True)
class Outcome:
    """How a trial's run ended.

    Attributes:
        values: Objectives; empty where there are none.
        reason: Why it failed; empty if it did not.
        traceback: Where it failed.
        lost: Whether it was ended from outside (Ctrl-C, a node that went away): it does not count.
    """

    values: Sequence[float] = ()
    reason: str = ""
    traceback: str = ""
    lost: bool = False


def failure(error: BaseException) -> Outcome:
    """The outcome of a run that ended with an error."""
    interrupted = isinstance(error, WatchmeError) and error.exit_code == _INTERRUPTED
    if interrupted or isinstance(error, KeyboardInterrupt):
        return Outcome(reason="interrupted", lost=True)
    text = str(error).strip()
    head = text if isinstance(error, WatchmeError) else f"{type(error).__name__}: {text}"
    if isinstance(error, ConfigError):
        head = "; ".join(" ".join(str(problem).split()) for problem in error.problems)
    if "out of memory" in text.lower():
        head = f"out of memory: {head}"
    return Outcome(reason=head, traceback="".join(traceback.format_exception(error)))
