"""The rows of a W&B history, in which an epoch stands once however often a run is interrupted and resumed.

Rows cannot be taken back. An epoch that ends before its checkpoint is written is trained again by a resumed run, so its
row is held until last.pt is newer than metrics.jsonl, in which the epoch's line is written before. What was logged is
kept in the run folder, and what a resumed run finds to be missing, it takes from metrics.jsonl.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from watchme.io.files import read_json, replace_json
from watchme.io.metrics_log import NOT_METRICS, read_metrics
from watchme.io.run_lookup import METRICS, WEIGHTS

_STATE = "watchme-history.json"
Log = Callable[[dict[str, Any], int], None]


@dataclass
class _Logged:
    """What W&B has of a run."""

    id: str
    row: int = 0  # number of the last row, W&B's own step
    epoch: int = -1
    step: int = 0
    log: int = 0  # bytes of train.log


class History:
    """Logs rows, each under the next number.

    Args:
        folder: The run folder.
        run_id: W&B's id of the run; of another one what was logged does not count.
        log: Takes a row and its number.

    Attributes:
        logged: What W&B has; kept in the run folder.
    """

    def __init__(self, folder: Path, run_id: str, log: Log) -> None:
        self._folder, self._log = folder, log
        self._file = folder / "wandb" / _STATE
        known = read_json(self._file)
        self.logged = _Logged(run_id)
        if known.get("id") == run_id:
            self.logged = _Logged(**{name: known[name] for name in asdict(self.logged) if name in known})
        self._held: tuple[int, dict[str, Any]] | None = None

    def resume(self, epoch: int) -> bool:
        """Drop the row of a later epoch, and log epochs up to `epoch` that are missing.

        Returns:
            Whether W&B has later epochs already, whose rows stay.
        """
        self._held = None
        if self.logged.row == 0 and len(list(self._file.parent.glob(f"*run-*-{self.logged.id}"))) > 1:
            # An earlier attempt of a version that kept no state: one row an epoch, and one more at its end.
            self.logged.row, self.logged.epoch = epoch + 1, epoch
        for line in read_metrics(self._folder / METRICS):
            if self.logged.epoch < line["epoch"] <= epoch:
                values = {name: value for name, value in line.items() if name not in NOT_METRICS}
                self._log_epoch(int(line["epoch"]), finite(values))
        return self.logged.epoch > epoch

    def hold(self, epoch: int, values: dict[str, Any]) -> None:
        """Log the epoch that is held, which is over, and hold another."""
        self.release()
        self._held = (epoch, values)
        if epoch == 0:  # the evaluation before training, which a resumed run does not repeat
            self.release()

    def release(self) -> None:
        """Log the epoch that is held."""
        if self._held is not None:
            held, self._held = self._held, None
            self._log_epoch(*held)

    def release_if_saved(self) -> None:
        """Log the epoch that is held if its checkpoint is written, or there is none that a resumed run starts from."""
        try:
            saved = (self._folder / WEIGHTS / "last.pt").stat().st_mtime_ns
            written = (self._folder / METRICS).stat().st_mtime_ns
        except FileNotFoundError:
            return
        if saved >= written:
            self.release()

    def end(self, *, whole: bool) -> None:
        """The run has ended: what is held of a run that can be resumed is logged only if its checkpoint holds it."""
        if not whole and (self._folder / WEIGHTS / "last.pt").is_file():
            self.release_if_saved()
            self._held = None
        self.release()

    def log_steps(self, step: int, values: Mapping[str, float]) -> None:
        """Log a point within an epoch, unless it was logged before the run was resumed."""
        self.release()
        if step > self.logged.step:
            self.logged.step = step
            self.log({"step": step, **finite(values)})

    def log(self, values: dict[str, Any]) -> None:
        """Log a row of its own."""
        self.logged.row += 1
        self._log(values, self.logged.row)
        self.save()

    def save(self) -> None:
        """Keep what was logged."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_json(self._file, asdict(self.logged))

    def _log_epoch(self, epoch: int, values: dict[str, Any]) -> None:
        if epoch > self.logged.epoch:
            self.logged.epoch = epoch
            self.log({"epoch": epoch, **values})


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Undefined values are left out: W&B draws NaN as a point."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
