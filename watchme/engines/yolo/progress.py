"""Progress within an epoch: a bar with named losses and the time left, or log lines where output is no terminal."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

LOG_EVERY, REFRESH = 30.0, 0.2  # seconds, of a log and of a terminal
_WIDTH = 80


class BatchProgress:
    """Iterates over numbered batches in place of ultralytics' TQDM, whose line takes 110 columns without names.

    `losses` returns the running means by name; empty before the first batch.
    """

    def __init__(
        self, batches: Iterable[Any], total: int, *, title: str, losses: Callable[[], Mapping[str, float]]
    ) -> None:
        self._batches = batches
        self._total = total
        self._title = title
        self._losses = losses
        self._begun = self._logged = time.monotonic()
        self._bar: tqdm[Any] | None = None
        self._number = 0

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches; a bar is removed at the end, when the epoch's line is logged."""
        if not sys.stdout.isatty():
            yield from self._batches
            return
        layout = "{desc} {percentage:3.0f}%|{bar:10}| {remaining}{postfix}"
        options: dict[str, Any] = {"ncols": _WIDTH, "bar_format": layout, "leave": False, "mininterval": REFRESH}
        with tqdm(desc=self._title, total=self._total, file=sys.stdout, **options) as self._bar:
            yield from self._batches

    def set_description(self, text: str) -> None:
        """Called by ultralytics after each batch, with its own line, which is not used."""
        self._number += 1
        if self._bar is not None:
            self._bar.set_postfix_str(self._shown(), refresh=False)
            self._bar.update()
            return
        now = time.monotonic()
        if now - self._logged >= LOG_EVERY:
            self._logged = now
            left = (now - self._begun) / self._number * (self._total - self._number)
            log.info(
                "%s  batch %d/%d  %s  %s left",
                self._title,
                self._number,
                self._total,
                self._shown(),
                tqdm.format_interval(left),
            )

    def _shown(self) -> str:
        losses = self._losses().items()
        return "  ".join(f"{name.removesuffix('_loss')} {float(value):.3g}" for name, value in losses)
