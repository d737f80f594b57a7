"""Timings of an epoch that ultralytics trains, from its callbacks."""

import time


class EpochTimer:
    """Duration of an epoch, and the share of its training spent waiting for the data loader."""

    EVENTS = frozenset({"on_train_epoch_start", "on_train_batch_start", "on_train_batch_end", "on_train_epoch_end"})

    def __init__(self) -> None:
        self._start = self._last = self._end = time.perf_counter()
        self._waited = 0.0

    def mark(self, event: str) -> None:
        """Record that a callback of ultralytics, one of `EVENTS`, runs now."""
        now = time.perf_counter()
        if event == "on_train_epoch_start":
            self._start, self._waited = now, 0.0
        elif event == "on_train_batch_start":
            self._waited += now - self._last
        elif event == "on_train_epoch_end":
            self._end = now
        self._last = now

    def timings(self, images: int) -> dict[str, float]:
        """Timings of an epoch of `images` images; only `time/epoch_s` includes validation."""
        seconds = self._end - self._start
        return {
            "time/epoch_s": time.perf_counter() - self._start,
            "perf/images_per_s": images / seconds,
            "perf/data_wait_share": self._waited / seconds,
        }
