"""Retry with exponential backoff while the database of a study does not answer."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from watchme.sweep.storage import StorageError

T = TypeVar("T")
PATIENCE_S = 300.0
_FIRST_S, _LONGEST_S = 0.5, 10.0
log = logging.getLogger(__name__)


def is_outage(error: BaseException) -> bool:
    """Whether an error of the storage may go away: a server that restarts, a lost connection, a locked file."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or isinstance(error, (StorageError, OperationalError, InterfaceError))


def retry(action: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Call `action`, which must be safe to repeat, until it returns.

    Raises:
        StorageError: If the storage has not answered for `patience_s` seconds.
    """
    wait, until, announced = _FIRST_S, time.monotonic() + patience_s, False
    while True:
        try:
            return action()
        except Exception as error:
            if not is_outage(error):
                raise
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            if time.monotonic() + wait > until:
                raise StorageError(f"The study's storage has not answered for {patience_s:.0f} s: {cause}") from None
            if not announced:
                log.warning("The study's storage does not answer (%s); trying again for %.0f s.", cause, patience_s)
                announced = True
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_S)
