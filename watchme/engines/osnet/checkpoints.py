"""The weights folder of a run: last.pt to resume from (see resume.py), best.pt, and epochNNNN.pt of train.save_period.

state_dict, epoch, arch, num_classes, metrics   the weights, in torchreid's names: all that others need
neck                                            the BNNeck, where there is one
training                                        in last.pt and epochNNNN.pt: `Trainer.state_dict()`
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchme.io.checkpoint import save_checkpoint


@dataclass(frozen=True)
class Checkpoints:
    """Writes the checkpoints of one run."""

    folder: Path  # where they are
    save_period: int = 0  # epochs between copies that are kept; 0: none
    keep_last: int = 3  # how many of these copies are kept

    def save(self, weights: Mapping[str, Any], training: Mapping[str, Any], *, is_best: bool) -> None:
        """Write last.pt, then best.pt where this epoch is the best, and now and then a copy that is kept.

        A kill between the two leaves a last.pt that says it is the best, from which resume.py makes best.pt.
        """
        full, epoch = {**weights, "training": training}, int(weights["epoch"])
        save_checkpoint(self.folder / "last.pt", full)
        if is_best:
            save_checkpoint(self.folder / "best.pt", weights)
        if self.save_period and epoch % self.save_period == 0:
            save_checkpoint(self.folder / f"epoch{epoch:04d}.pt", full)
            for old in sorted(self.folder.glob("epoch*.pt"))[: -self.keep_last]:
                old.unlink()
