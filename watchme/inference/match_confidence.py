"""How sure a match is: similarities beside those of different people, of the re-ID run or of the source itself."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchme.core.errors import CheckpointError
from watchme.core.formatting import percent_rounded_down
from watchme.io.files import read_json
from watchme.io.run_lookup import CALIBRATION, CALIBRATION_MEANS, folder_of
from watchme.metrics.iou import iou_matrix
from watchme.metrics.verification import TARGET, Similarities, count_similarities

SAME_PERSON_RATE = 0.001
"""The false match rate at which tracks are taken for one person: stricter than a match, as every pair of tracks is
compared, and a wrong one changes what all later comparisons are made with."""
_APART = 0.1  # IoU below which two detections of a frame are of two people
_MOST_PAIRS = 200_000


@dataclass(frozen=True, eq=False)
class Certainty:
    """What similarities are worth."""

    similarities: Similarities | None  # those that others are compared with; None: nothing is known of this model
    origin: str  # where they come from, a phrase
    rate: float = TARGET  # the false match rate that matches are called at

    @property
    def threshold(self) -> float:
        """The similarity from which on a sighting counts as a match; NaN where nothing is known."""
        return math.nan if self.similarities is None else self.similarities.threshold(self.rate)

    def higher_than(self, similarity: Any) -> NDArray[np.float64]:
        """Share of the comparisons of different people that are less similar; NaN where nothing is known."""
        if self.similarities is None:
            return np.full(np.shape(similarity), math.nan)
        return 1 - self.similarities.false_match_rate(similarity)

    def in_words(self, similarity: float) -> str:
        """`99.7%`; `all 2,905` where no pair of different people was as similar; a dash where nothing is known."""
        if self.similarities is None:
            return "\u2013"
        below = float(self.higher_than(similarity))
        pairs = int(self.similarities.non_mated.sum())
        if below == 1:
            return f"all {pairs:,}"
        return percent_rounded_down(below)


def of_run(weights: Path, named: Path | None = None, *, means: bool = False) -> Similarities | None:
    """The similarities that a re-ID model's run has measured, or another that is named; None where there are none.

    Args:
        weights: Of the re-ID model.
        named: A run folder or a calibration.json, such as of an evaluation of the same weights.
        means: Those of an image and a mean of images, as of a track; older files have none.

    Raises:
        CheckpointError: If a file that is there, or is named, cannot be read.
    """
    if named is None:
        folder = folder_of(weights)
        file = None if folder is None else folder / CALIBRATION
        if file is None or not file.is_file():
            return None
    else:
        file = named / CALIBRATION if named.is_dir() else named
    if not file.is_file():
        raise CheckpointError(f"find.calibration: {file} is not there; an evaluation of the re-ID model writes it")
    try:
        content = read_json(file)
        if means and CALIBRATION_MEANS not in content:
            return None
        found = Similarities.from_json(content[CALIBRATION_MEANS] if means else content)
    except ValueError as error:
        raise CheckpointError(f"{file} cannot be used: {error}") from None
    return found if found.is_sound else None


def of_frames(
    frame: NDArray[np.int64],
    box: NDArray[np.float32],
    embedding: NDArray[np.float32],
    row: NDArray[np.int64] | None = None,
) -> Similarities:
    """Similarities of people who are seen in the same frame, and so are different ones.

    They are of one camera and one moment, which makes them more alike than strangers elsewhere are: a threshold by them
    is rather too high.

    Args:
        frame: (N,) in ascending order.
        box: (N, 4) x1, y1, x2, y2; those that overlap may be two detections of one person, and are no pair.
        embedding: (N, D) of unit norm; with `row` (T, D), such as the means of tracks.
        row: (N,) the row of `embedding` that each sighting has.
    """
    edges = [0, *(np.flatnonzero(np.diff(frame)) + 1).tolist(), len(frame)]
    several = [(start, end) for start, end in itertools.pairwise(edges) if end - start > 1]
    counts = count_similarities(np.zeros(0))
    total = 0
    # Frames evenly over the source, so that a long one takes no longer.
    for start, end in np.random.default_rng(0).permutation(np.array(several, np.int64).reshape(-1, 2)).tolist():
        vectors = embedding[start:end] if row is None else embedding[row[start:end]]
        similar = vectors @ vectors.T
        boxes = box[start:end].astype(np.float64)
        apart = np.triu(iou_matrix(boxes, boxes) < _APART, 1)
        counts += count_similarities(similar[apart])
        total += int(apart.sum())
        if total >= _MOST_PAIRS:
            break
    return Similarities(np.zeros_like(counts), counts, "the same frame", 0)
