"""ultralytics' DetectionTrainer with `objective` as fitness, atomic checkpoints, and an event after each epoch."""

import contextlib
import json
import math
import os
import shutil
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from watchme.core.batch_limit import Limit
from watchme.core.device import is_out_of_memory
from watchme.core.errors import TrainingError, WatchmeError
from watchme.core.interfaces import EpochEvent
from watchme.core.lost_peer import is_lost_peer
from watchme.core.metric_names import higher_is_better
from watchme.core.process_state import environment
from watchme.core.step_meter import StepMeter
from watchme.core.step_profiler import StepProfiler, anomalies_detected
from watchme.engines.yolo import isolation
from watchme.engines.yolo.batch_limit import limit_images
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.distributed import Emit, LostPeerError, connect_to_parent
from watchme.engines.yolo.epoch_timer import EpochTimer
from watchme.engines.yolo.metric_names import canonical_metrics
from watchme.engines.yolo.out_of_memory import training_error
from watchme.engines.yolo.progress import BatchProgress, validation_progress
from watchme.io.files import locked, remove_if_empty, replacing

isolation.isolate()  # the ranks of a multi-GPU run start with this module

from ultralytics.engine import trainer as engine_trainer  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.nn.tasks import load_checkpoint  # noqa: E402
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, RANK  # noqa: E402
from ultralytics.utils.torch_utils import strip_optimizer  # noqa: E402

_SETTINGS = "WATCHME_TRAINER"
# An undefined score counts as less than any other, but is finite: ultralytics treats NaN as a failed run.
_UNDEFINED = -1.0


def passing_on(config: Config, step_every: int = 0) -> contextlib.AbstractContextManager[None]:
    """Let trainers that are created within the block, also in other processes, know what is no ultralytics argument."""
    settings = {
        "objective": config.objective,
        "limit_batches": config.train.limit_batches,
        "detect_anomaly": config.train.detect_anomaly,
        "step_every": step_every,
    }
    return environment({_SETTINGS: json.dumps(settings)})


class WatchmeTrainer(DetectionTrainer):  # type: ignore[misc]
    """DetectionTrainer that selects by `objective` and emits an `EpochEvent` after each epoch.

    ultralytics creates it again in each rank of a multi-GPU run, from its arguments alone; what `passing_on` names and
    the address for events are passed by environment variables there.
    """

    wdir: Path
    save_period: int
    best_fitness: float | None

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        super().__init__(cfg, overrides, _callbacks)
        # ultralytics may delete save_dir, so the weights are beside it in the run folder.
        unused = self.wdir
        self.wdir = Path(self.save_dir).parent / "weights"
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"
        if RANK in {-1, 0}:
            self.wdir.mkdir(parents=True, exist_ok=True)
            remove_if_empty(unused)
        # ultralytics counts from 0 and keeps the first epoch too; `save_model` keeps every n-th.
        self.keep_every, self.save_period = self.save_period, -1
        settings = json.loads(os.environ[_SETTINGS])
        self.objective = settings["objective"]
        self.limit: Limit = settings["limit_batches"]
        self.detect_anomaly: bool = settings["detect_anomaly"]
        self.profiler: StepProfiler | None = None
        self.parent = connect_to_parent(LOCAL_RANK) if LOCAL_RANK != -1 else None
        self.emit: Emit | None = self.parent if LOCAL_RANK == 0 else None
        self.note_batch_size: Callable[[int], None] = lambda size: None
        self.timer = EpochTimer()
        step = self.parent.step if self.parent is not None else lambda event: None
        self.steps = StepMeter(settings["step_every"], step)
        self._done = 0  # steps of this epoch

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Take a resumed run's arguments from its checkpoint, except the precision, which depends on the device."""
        super().check_resume(overrides)
        if self.resume:
            self.args.amp = overrides.get("amp", self.args.amp)

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Restore a checkpoint, and the best fitness from best.pt, which may be of an earlier epoch."""
        super().resume_training(ckpt)
        if self.resume and self.best.is_file():
            _, best = load_checkpoint(self.best)
            self.best_fitness = (best.get("train_metrics") or {}).get("fitness", self.best_fitness)

    def run_callbacks(self, event: str) -> None:
        """Time training and report steps, then run ultralytics' callbacks."""
        if event in EpochTimer.EVENTS:
            self.timer.mark(event)
            if event == "on_train_epoch_start":
                self._done = 0
                self.steps.start_epoch()
            elif event == "on_train_batch_end" and RANK in {-1, 0}:
                self._count_step()
        super().run_callbacks(event)

    def _count_step(self) -> None:
        """Report a point within the epoch where one is due; ultralytics has just waited for the losses of its bar."""
        self._done += 1
        step = self.epoch * len(self.train_loader) + self._done
        if self.steps.count(step, self.batch_size):
            loss = sum(float(value) for value in self.loss_items.values())
            self.steps.report(step, loss, float(self.optimizer.param_groups[0]["lr"]))

    def train(self) -> None:
        """Train. A rank of a multi-GPU run sends its error to the process of train.py, and exits at once."""
        try:
            with anomalies_detected(self.detect_anomaly):
                super().train()
        except Exception as error:
            found = self._explained(error)
            if self.parent is None and found is error:
                raise
            if self.parent is None:
                raise found from error
            traceback.print_exc()
            reason = f"the process of rank {RANK} failed: {type(found).__name__}: {found}"
            kind = LostPeerError if is_lost_peer(found) else TrainingError
            self.parent.fail(found if isinstance(found, WatchmeError) else kind(reason))
            os._exit(1)  # leaving the process group could wait for the other ranks
        if self.parent is not None:
            self.parent.finish()

    def _explained(self, error: Exception) -> Exception:
        """The most common errors with the keys that help; others unchanged."""
        if is_out_of_memory(error):
            traceback.clear_frames(error.__traceback__)  # they hold tensors, which the next trial of a sweep needs
            self._clear_memory()
            size = int(self.args.imgsz)
            return training_error(error, batch_size=self.batch_size, gpus=self.world_size, image_size=size)
        if "gives BatchNorm a single value per channel" in str(error):
            return TrainingError(
                f"the last batch of an epoch holds one image, of which batch normalisation cannot learn at "
                f"{self.args.imgsz} px; change train.batch_size={self.batch_size}, or set dataset.image_size=64 or more"
            )
        if "NaN persisted" in str(error):
            return TrainingError(f"the loss is NaN again and again; {self._remedy()}")
        return error

    def _remedy(self) -> str:
        """What helps against a loss that is not finite."""
        return "lower optimizer.lr" + (" or set train.precision=fp32" if self.args.amp else "")

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build a loader; the lock lets one run at a time write ultralytics' label cache."""
        with locked(Path(self.args.data).parent / ".lock") if RANK in {-1, 0} else contextlib.nullcontext():
            return super().get_dataloader(dataset_path, batch_size, rank, mode)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Build a dataset, less what `train.limit_batches` leaves out."""
        dataset = super().build_dataset(img_path, mode, batch)
        return limit_images(dataset, (batch or 1) * max(self.world_size, 1), self.limit)

    def _build_train_pipeline(self) -> None:
        """Build loaders and optimizer, again after ultralytics has halved the batch for lack of memory."""
        if self.args.nbs == -1:
            self.args.nbs = self.batch_size
        super()._build_train_pipeline()
        self.note_batch_size(self.batch_size)

    def progress_string(self) -> str:
        """No header of columns above each epoch: `BatchProgress` names the losses."""
        return ""

    def _batch_progress(self, batches: Iterable[Any], total: int) -> BatchProgress:
        title = f"epoch {self.epoch + 1}/{self.epochs}"
        if self.profiler is not None:
            batches = self.profiler.over(batches, total)
        return BatchProgress(batches, total, title=title, losses=lambda: self.tloss or {})

    def _do_train(self) -> None:
        bar, engine_trainer.TQDM = engine_trainer.TQDM, self._batch_progress
        try:
            super()._do_train()
        finally:
            engine_trainer.TQDM = bar

    def _setup_train(self) -> None:
        # ultralytics' check of mixed precision would download a model. It detects a fault of GTX 16xx cards, where
        # train.precision=fp32 helps.
        check, engine_trainer.check_amp = engine_trainer.check_amp, lambda model: True
        try:
            super()._setup_train()
        finally:
            engine_trainer.check_amp = check

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Validate; the fitness, which selects best.pt, is the objective."""
        best = self.best_fitness
        with validation_progress("validation") if RANK in {-1, 0} else contextlib.nullcontext():
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
        """Emit the epoch's event, then write the checkpoints, each whole or not at all, best.pt first."""
        self._emit_epoch()
        last, best = self.last, self.best
        self.last, self.best = last.with_name("last.tmp"), best.with_name("best.tmp")
        try:
            saved: bool = super().save_model()
            epoch = self.epoch + 1
            if self.keep_every > 0 and epoch % self.keep_every == 0:
                with replacing(last.with_name(f"epoch{epoch}.pt")) as temporary:
                    shutil.copyfile(self.last, temporary)
            for temporary, final in ((self.best, best), (self.last, last)):
                if temporary.exists():
                    temporary.replace(final)
        finally:
            self.last, self.best = last, best
        return saved

    def final_eval(self) -> None:
        """Strip the optimizer from the checkpoints; train.py evaluates the best weights."""
        if RANK in {-1, 0}:
            strip_checkpoints(self.wdir)

    def _emit_epoch(self) -> None:
        losses = {f"train/{name}": float(value) for name, value in self.tloss.items()}
        metrics = {
            "train/loss": sum(losses.values()),
            **losses,
            "train/lr": float(self.lr["lr/pg0"]),
            **canonical_metrics(self.metrics, "val"),
        }
        if not math.isfinite(metrics["train/loss"]):
            raise TrainingError(f"the loss is {metrics['train/loss']} after epoch {self.epoch + 1}; {self._remedy()}")
        event = EpochEvent(
            self.epoch + 1,
            self.epochs,
            metrics,
            self.timer.timings(len(self.train_loader.dataset)),
            is_best=self.best_fitness == self.fitness,
        )
        if self.emit is not None and self.emit(event) is not None:
            self.stop = True


def strip_checkpoints(folder: Path) -> None:
    """Strip the optimizer from last.pt and best.pt, each file whole or not at all."""
    for path in (folder / "last.pt", folder / "best.pt"):
        if path.exists():
            with replacing(path) as stripped:
                strip_optimizer(path, s=str(stripped))
