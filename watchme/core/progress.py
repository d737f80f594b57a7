"""Progress of what takes long: a bar of 80 columns on a terminal, else a line in the log every half minute."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
log = logging.getLogger(__name__)

LOG_EVERY, REFRESH = 30.0, 0.2  # seconds, of a log and of a terminal
_WIDTH = 80
_BAR = "{desc} {percentage:3.0f}%|{bar:10}| {remaining} left{postfix}"
_COUNT = "{desc} {n_fmt} {unit}s  {elapsed}{postfix}"


class Progress:
    """Counts what is done; as a context it removes its bar at the end, where the result is logged.

    Args:
        title: What is done, a word or two.
        total: Of how many; None: nobody knows.
        unit: What is counted, in the singular.
        done: Counted before.
        note: Returns what else is to be shown, such as losses.
    """

    def __init__(
        self, title: str, total: int | None, unit: str, *, done: int = 0, note: Callable[[], str] = lambda: ""
    ) -> None:
        self._title, self._total, self._unit, self._note = title, total, unit, note
        self._done = self._before = done
        self._begun = self._logged = time.monotonic()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty():
            self._bar = tqdm(
                desc=self._title,
                total=self._total,
                initial=self._done,
                unit=self._unit,
                file=sys.stdout,
                ncols=_WIDTH,
                bar_format=_COUNT if self._total is None else _BAR,
                leave=False,
                mininterval=REFRESH,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def over(self, parts: Iterable[T]) -> Iterator[T]:
        """Yield parts, each of which is done when the next one is asked for."""
        with self:
            for part in parts:
                yield part
                self.update()

    def update(self, count: int = 1) -> None:
        """Count what was done since."""
        self._done += count
        if self._bar is not None:
            # The note is made once a refresh, not once a batch: losses may wait for a GPU.
            if time.time() - self._bar.last_print_t >= REFRESH:
                self._bar.set_postfix_str(self._note(), refresh=False)
            self._bar.update(count)
            return
        now = time.monotonic()
        if now - self._logged >= LOG_EVERY:
            self._logged = now
            self._say(now)

    def _say(self, now: float) -> None:
        parts = [self._title, f"{self._done:,} {self._unit}s", self._note()]
        if self._total is not None:
            each = (now - self._begun) / max(self._done - self._before, 1)
            left = tqdm.format_interval(each * max(self._total - self._done, 0))
            parts = [self._title, f"{self._unit} {self._done}/{self._total}", self._note(), f"{left} left"]
        text = "  ".join(part for part in parts if part)
        if log.hasHandlers():
            log.info(text)
        else:  # commands that set up no logging
            print(text, file=sys.stderr)
