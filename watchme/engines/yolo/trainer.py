"""ultralytics' detection trainer with our objective, our weights folder, and an event at the end of each epoch."""

import math
import os
import time
from pathlib import Path
from typing import Any

from ultralytics.engine import trainer as engine_trainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, RANK
from ultralytics.utils.torch_utils import strip_optimizer

from watchme.contract import EpochEvent
from watchme.engines.yolo.events import Emit, canonical_metrics, emitter_to_parent
from watchme.errors import TrainingError
from watchme.metrics.names import higher_is_better

OBJECTIVE = "WATCHME_OBJECTIVE"


class WatchmeTrainer(DetectionTrainer):  # type: ignore[misc]
    """DetectionTrainer that selects by our objective and tells the house of each epoch.

    ultralytics re-creates the class in each process of a multi-GPU run from its arguments alone, so the objective and
    the way to the observers travel through the environment there.
    """

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
        self.objective = os.environ[OBJECTIVE]
        self.emit: Emit | None = emitter_to_parent() if LOCAL_RANK == 0 else None
        self.add_callback("on_train_epoch_start", _start_clock)
        self.add_callback("on_train_epoch_end", _stop_clock)

    def _setup_train(self) -> None:
        # The check of mixed precision compares with a model that it would download. It guards against a fault of
        # GTX 16xx cards; train.precision=fp32 is the remedy there.
        engine_trainer.check_amp = lambda model: True
        super()._setup_train()

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Validate; the fitness, by which best.pt is chosen, is the objective."""
        best = self.best_fitness
        metrics, fitness = super().validate()
        if metrics is None:
            return metrics, fitness
        named = canonical_metrics(metrics, "val")
        value = named.get(self.objective, math.nan)
        if math.isnan(value):
            raise TrainingError(
                f"objective={self.objective} has no value after an epoch; the YOLO engine has {', '.join(named)}"
            )
        fitness = value if higher_is_better(self.objective) else -value
        self.best_fitness = fitness if best is None or fitness > best else best
        return metrics, fitness

    def save_model(self) -> bool:
        """Tell the observers of the epoch, then write the checkpoints, whole or not at all."""
        self._tell()
        last, best = self.last, self.best
        self.last, self.best = last.with_suffix(".tmp"), best.with_name("best.tmp")
        try:
            saved: bool = super().save_model()
            for temporary, final in ((self.last, last), (self.best, best)):
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
                    strip_optimizer(path)

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
        images = len(self.train_loader.dataset)
        event = EpochEvent(
            self.epoch + 1,
            self.epochs,
            metrics,
            {
                "time/epoch_s": time.perf_counter() - self._epoch_started,
                "perf/images_per_s": images / self._train_seconds,
            },
            is_best=self.best_fitness == self.fitness,
        )
        if self.emit is not None and self.emit(event) is not None:
            self.stop = True


def _start_clock(trainer: Any) -> None:
    trainer._epoch_started = time.perf_counter()


def _stop_clock(trainer: Any) -> None:
    trainer._train_seconds = time.perf_counter() - trainer._epoch_started
