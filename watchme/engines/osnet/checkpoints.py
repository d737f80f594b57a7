"""The weights folder of a run: last.pt to resume from, best.pt, and epochNNNN.pt of train.save_period.

state_dict, epoch, arch, num_classes, metrics   the weights, in torchreid's names: all that others need
neck                                            the BNNeck, where there is one
training                                        in last.pt and epochNNNN.pt: `Trainer.state_dict()`
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchme.core.errors import CheckpointError
from watchme.io.checkpoint import load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """Writes and mends the checkpoints of one run."""

    folder: Path  # where they are
    save_period: int = 0  # epochs between copies that are kept; 0: none
    keep_last: int = 3  # how many of these copies are kept

    def save(self, weights: Mapping[str, Any], training: Mapping[str, Any], *, is_best: bool) -> None:
        """Write last.pt, then best.pt where this epoch is the best, and now and then a copy that is kept.

        A kill between the two leaves a last.pt that says it is the best, from which `restore_best` makes best.pt.
        """
        full, epoch = {**weights, "training": training}, int(weights["epoch"])
        save_checkpoint(self.folder / "last.pt", full)
        if is_best:
            save_checkpoint(self.folder / "best.pt", weights)
        if self.save_period and epoch % self.save_period == 0:
            save_checkpoint(self.folder / f"epoch{epoch:04d}.pt", full)
            for old in sorted(self.folder.glob("epoch*.pt"))[: -self.keep_last]:
                old.unlink()

    def restore_best(self, resumed: Mapping[str, Any], best_epoch: int) -> bool:
        """Make best.pt be of the epoch that a resumed checkpoint names as the best.

        Args:
            resumed: Content of the checkpoint that is resumed.
            best_epoch: The best epoch according to it.

        Returns:
            Whether that worked. It does not for an older checkpoint, or in another folder: those weights are gone.
        """
        best = self.folder / "best.pt"
        found = int(load_checkpoint(best)["epoch"]) if best.is_file() else 0
        if found == best_epoch:
            return True
        if best_epoch == resumed["epoch"]:
            save_checkpoint(best, {name: value for name, value in resumed.items() if name != "training"})
            return True
        log.warning("No best.pt of epoch %d is here; the best epoch is chosen again", best_epoch)
        best.unlink(missing_ok=True)
        return False


def checkpoint_of(path: Path) -> Path:
    """The file that `train.resume` means: a checkpoint itself, or the last one of a run folder."""
    return path / "weights" / "last.pt" if path.is_dir() else path


def load_resumable(path: Path, epochs: int) -> dict[str, Any]:
    """Read a checkpoint that training can go on from.

    Args:
        path: The file.
        epochs: `train.epochs`.

    Raises:
        CheckpointError: If it holds no training state, or that of a later epoch than the last.
    """
    content = load_checkpoint(path)
    if not isinstance(content.get("training"), dict):
        raise CheckpointError(f"{path} holds weights alone; resume from last.pt, or use model.weights={path}")
    if int(content["epoch"]) > epochs:
        raise CheckpointError(f"{path} is of epoch {content['epoch']}, beyond train.epochs={epochs}; raise it")
    return content
