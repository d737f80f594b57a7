"""ultralytics' detection trainer with our objective, our weights folder, and an event at the end of each epoch."""

import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

from watchme.core.errors import TrainingError, WatchmeError
from watchme.core.interfaces import EpochEvent
from watchme.core.metric_names import higher_is_better
from watchme.engines.yolo import isolation
from watchme.engines.yolo.dataset import locked
from watchme.engines.yolo.events import Emit, Line, canonical_metrics, line_to_parent

isolation.isolate()  # the processes of a multi-GPU run come here first

from ultralytics.engine import trainer as engine_trainer  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.nn.tasks import load_checkpoint  # noqa: E402
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, RANK  # noqa: E402
from ultralytics.utils.torch_utils import strip_optimizer  # noqa: E402

OBJECTIVE = "WATCHME_OBJECTIVE"
# What an undefined score counts for: less than any score, but finite, as ultralytics takes NaN for a broken run.
_UNDEFINED = -1.0


class WatchmeTrainer(DetectionTrainer):  # type: ignore[misc]
    """DetectionTrainer that selects by our objective and tells the house of each epoch.

    ultralytics re-creates the class in each process of a multi-GPU run from its arguments alone, so the objective and
    the way to the callbacks travel through the environment there.
    """

    wdir: Path
    save_period: int
    best_fitness: float | None

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        # save_dir is a sub-folder that ultralytics may delete; the weights lie beside it in the run folder.
        unused = self.wdir
        self.wdir = Path(self.save_dir).parent / "weights"
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"
        if RANK in {-1, 0}:
            self.wdir.mkdir(parents=True, exist_ok=True)
            if unused.is_dir() and not any(unused.iterdir()):
                unused.rmdir()
        # ultralytics counts from 0 and keeps the first epoch too; save_model keeps every n-th.
        self.keep_every, self.save_period = self.save_period, -1
        self.objective = os.environ[OBJECTIVE]
        self.emit: Emit | None = line_to_parent() if LOCAL_RANK == 0 else None
        self.clock = _Clock()

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Take the arguments of a resumed run from its checkpoint, but the precision as it suits the device now."""
        super().check_resume(overrides)
        if self.resume:
            self.args.amp = overrides.get("amp", self.args.amp)

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Restore a checkpoint; what is to be beaten is best.pt, which may be older than the checkpoint's own best."""
        super().resume_training(ckpt)
        if self.resume and self.best.is_file():
            _, best = load_checkpoint(self.best)
            self.best_fitness = (best.get("train_metrics") or {}).get("fitness", self.best_fitness)

    def run_callbacks(self, event: str) -> None:
        """Note the time of what happens, then do as ultralytics does."""
        if event in _Clock.EVENTS:
            self.clock.hear(event)
        super().run_callbacks(event)

    def train(self) -> None:
        """Train; an error of ours in a process of a multi-GPU run is told to the process that started it."""
        try:
            super().train()
        except WatchmeError as error:
            if isinstance(self.emit, Line):
                self.emit.fail(error)
            raise

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build a loader; of runs that start on one dataset at once, one writes ultralytics' label cache."""
        with locked(Path(self.args.data).parent, wait=RANK in {-1, 0}):
            return super().get_dataloader(dataset_path, batch_size, rank, mode)

    def _setup_train(self) -> None:
        # The check of mixed precision compares with a model that it would download. It guards against a fault of
        # GTX 16xx cards; train.precision=fp32 is the remedy there.
        check, engine_trainer.check_amp = engine_trainer.check_amp, lambda model: True
        try:
            super()._setup_train()
        finally:
            engine_trainer.check_amp = check

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Validate; the fitness, by which best.pt is chosen, is the objective."""
        best = self.best_fitness
        metrics, fitness = super().validate()
        if metrics is None:
            return metrics, fitness
        named = canonical_metrics(metrics, "val")
        if self.objective not in named:
            raise TrainingError(f"objective={self.objective}: the YOLO engine has {', '.join(named)}")
        value = named[self.objective]
        if higher_is_better(self.objective):
            fitness = _UNDEFINED if math.isnan(value) else value
        else:
            fitness = -value
        self.best_fitness = fitness if best is None or fitness > best else best
        return metrics, fitness

    def save_model(self) -> bool:
        """Tell the callbacks of the epoch, then write the checkpoints, each whole or not at all, best.pt first."""
        self._tell()
        last, best = self.last, self.best
        self.last, self.best = last.with_name("last.tmp"), best.with_name("best.tmp")
        try:
            saved: bool = super().save_model()
            epoch = self.epoch + 1
            if self.keep_every > 0 and epoch % self.keep_every == 0:
                shutil.copyfile(self.last, last.with_name("epoch.tmp"))
                last.with_name("epoch.tmp").replace(last.with_name(f"epoch{epoch}.pt"))
            for temporary, final in ((self.best, best), (self.last, last)):
                if temporary.exists():
                    temporary.replace(final)
        finally:
            self.last, self.best = last, best
        return saved

    def final_eval(self) -> None:
        """Strip the optimizer from the checkpoints. The engine evaluates the best weights itself, once."""
        if RANK in {-1, 0}:
            for path in (self.last, self.best):
                if path.exists():
                    stripped = path.with_name(f"{path.stem}.tmp")
                    strip_optimizer(path, s=str(stripped))
                    stripped.replace(path)

    def _tell(self) -> None:
        losses = {f"train/{name}": float(value) for name, value in self.tloss.items()}
        metrics = {
            "train/loss": sum(losses.values()),
            **losses,
            "train/lr": float(self.lr["lr/pg0"]),
            **canonical_metrics(self.metrics, "val"),
        }
        if not math.isfinite(metrics["train/loss"]):
            raise TrainingError(
                f"the loss is {metrics['train/loss']} after epoch {self.epoch + 1}; "
                f"lower optimizer.lr or set train.precision=fp32"
            )
        event = EpochEvent(
            self.epoch + 1,
            self.epochs,
            metrics,
            self.clock.timings(len(self.train_loader.dataset)),
            is_best=self.best_fitness == self.fitness,
        )
        if self.emit is not None and self.emit(event) is not None:
            self.stop = True


class _Clock:
    """How long an epoch takes, and what share of its training is spent waiting for images."""

    EVENTS = frozenset({"on_train_epoch_start", "on_train_batch_start", "on_train_batch_end", "on_train_epoch_end"})

    def __init__(self) -> None:
        self._start = self._last = self._end = time.perf_counter()
        self._waited = 0.0

    def hear(self, event: str) -> None:
        """Note that `event` happens now."""
        now = time.perf_counter()
        if event == "on_train_epoch_start":
            self._start, self._waited = now, 0.0
        elif event == "on_train_batch_start":
            self._waited += now - self._last
        elif event == "on_train_epoch_end":
            self._end = now
        self._last = now

    def timings(self, images: int) -> dict[str, float]:
        """Timings of an epoch of so many images, validation included in `time/epoch_s` alone."""
        seconds = self._end - self._start
        return {
            "time/epoch_s": time.perf_counter() - self._start,
            "perf/images_per_s": images / seconds,
            "perf/data_wait_share": self._waited / seconds,
        }
