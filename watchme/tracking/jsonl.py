"""metrics.jsonl: one line an epoch, under canonical names. Always written; the others are held to it."""

import time
from pathlib import Path

from watchme.core.interfaces import Callback, EpochEvent, Stop
from watchme.io.files import replace_text
from watchme.io.metrics_log import metrics_line, read_metrics


class JsonlTracker(Callback):
    """Appends a line to `metrics.jsonl` at the end of each epoch; a file that is there is continued.

    A line is `{"epoch": 3, "time": <seconds since the epoch of Unix>, "is_best": true, "train/loss": ...}`. Undefined
    values (NaN, infinities) are written as null, since JSON has no NaN.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_resume(self, epoch: int) -> None:
        """Drop lines after `epoch` and a last line that a killed process left half written."""
        kept = [line for line in read_metrics(self.path) if line["epoch"] <= epoch]
        replace_text(self.path, "".join(map(metrics_line, kept)))

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Write the epoch's line, flushed to the system before training goes on."""
        head = {"epoch": event.epoch, "time": round(time.time(), 3), "is_best": event.is_best}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(metrics_line({**head, **event.metrics, **event.timings}))
        return None
