"""How similar pairs of the same person are, and pairs of different people: what a similarity is worth.

Terms of ISO/IEC 19795-1 (biometric performance testing): a comparison is mated if both pictures show the same person.
The false match rate (FMR) of a threshold is the share of non-mated comparisons at or above it, the true match rate
(TMR, 1 - FNMR) that of the mated ones. Both are of single comparisons: of n strangers n x FMR are expected to match.

Counts are kept in bins, so that any number of comparisons takes the memory of a few thousand numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchme.core.figure import new_axes, save

BINS = 2000
"""Of equal width from -1 to 1, so that thresholds are multiples of 0.001."""
TARGET = 0.01
"""The false match rate that matches are called at."""
_ROWS = 256  # of the first set, compared at once
_BARS = 20  # at least so many bars over what is drawn, where there are so many bins
_FEWEST = 100  # non-mated comparisons below which a rate of 1% cannot be measured

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Similarities:
    """Cosine similarities of mated and non-mated comparisons, counted."""

    mated: Counts  # (BINS,) comparisons of the same person
    non_mated: Counts  # (BINS,) comparisons of different people
    split: str = ""  # what was compared, e.g. `val`
    identities: int = 0  # how many people

    def __add__(self, other: "Similarities") -> "Similarities":
        """The comparisons of both; their people are taken to be different ones."""
        split = ", ".join(dict.fromkeys(filter(None, [self.split, other.split])))
        identities = self.identities + other.identities
        return Similarities(self.mated + other.mated, self.non_mated + other.non_mated, split, identities)

    def false_match_rate(self, similarity: Any) -> NDArray[np.float64]:
        """Share of non-mated comparisons at least as similar, of one similarity or of an array; NaN if there are none.

        It is that of the lower edge of the similarity's bin, so never too low.
        """
        return _share_from(self.non_mated, similarity)

    def true_match_rate(self, similarity: Any) -> NDArray[np.float64]:
        """Share of mated comparisons at least as similar."""
        return _share_from(self.mated, similarity)

    def threshold(self, rate: float = TARGET) -> float:
        """The lowest edge of a bin with a false match rate of at most `rate`; NaN if there are no such comparisons."""
        total = int(self.non_mated.sum())
        if not total:
            return math.nan
        above = np.append(np.cumsum(self.non_mated[::-1])[::-1], 0)  # from each edge on
        return _edge(int(np.argmax(above <= rate * total)))

    @property
    def is_sound(self) -> bool:
        """Whether there are enough comparisons for a threshold at the target rate."""
        return int(self.non_mated.sum()) >= _FEWEST

    def as_json(self) -> dict[str, Any]:
        """What `calibration.json` holds; see docs/find.md."""
        threshold = self.threshold()
        return {
            "similarity": "cosine of embeddings of unit norm",
            "split": self.split,
            "identities": self.identities,
            "mated_pairs": int(self.mated.sum()),
            "non_mated_pairs": int(self.non_mated.sum()),
            "target_false_match_rate": TARGET,
            "threshold": threshold,
            "false_match_rate": float(self.false_match_rate(threshold)),
            "true_match_rate": float(self.true_match_rate(threshold)),
            "bins": {"from": -1.0, "to": 1.0, "mated": self.mated.tolist(), "non_mated": self.non_mated.tolist()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Similarities":
        """Read what `as_json` has made.

        Raises:
            ValueError: If it is something else.
        """
        try:
            mated, non_mated = (np.array(content["bins"][name], np.int64) for name in ("mated", "non_mated"))
            found = cls(mated, non_mated, str(content["split"]), int(content["identities"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"it holds no counts of similarities ({type(error).__name__}: {error})") from None
        if any(part.shape != (BINS,) or part.min() < 0 for part in (mated, non_mated)):
            raise ValueError(f"its counts are not {BINS} numbers >= 0 each")
        return found


def compare_pairs(
    one: NDArray[np.floating[Any]],
    other: NDArray[np.floating[Any]],
    one_pids: NDArray[np.int64],
    other_pids: NDArray[np.int64],
    one_cams: NDArray[np.int64],
    other_cams: NDArray[np.int64],
    split: str = "",
) -> Similarities:
    """Compare every embedding of one set with those of the other from other cameras.

    Args:
        one: (N, D) embeddings; they are divided by their norm.
        other: (M, D) embeddings.
        one_pids: (N,) identities.
        other_pids: (M,) identities; those that `one` does not have are left out.
        one_cams: (N,) cameras.
        other_cams: (M,) cameras.
        split: What it is.
    """
    known = np.isin(other_pids, one_pids)
    first, second = unit_rows(one), unit_rows(other[known])
    other_pids, other_cams = other_pids[known], other_cams[known]
    mated, non_mated = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    for start in range(0, len(first), _ROWS):
        rows = slice(start, start + _ROWS)
        bins = _bin(first[rows] @ second.T)
        elsewhere = one_cams[rows, None] != other_cams
        same = one_pids[rows, None] == other_pids
        mated += np.bincount(bins[elsewhere & same], minlength=BINS)
        non_mated += np.bincount(bins[elsewhere & ~same], minlength=BINS)
    return Similarities(mated, non_mated, split, len(np.unique(one_pids)))


def mean_by_camera(
    features: NDArray[np.floating[Any]], pids: NDArray[np.int64], cams: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The mean of what each camera has of each identity: what a track of that person is to a search.

    Args:
        features: (N, D) embeddings; they are divided by their norm.
        pids: (N,) identities.
        cams: (N,) cameras.

    Returns:
        (M, D) means, (M,) their identities, (M,) their cameras.
    """
    keys, group = np.unique(np.stack([pids, cams], axis=1), axis=0, return_inverse=True)
    sums = np.zeros((len(keys), features.shape[1]), np.float32)
    np.add.at(sums, group.reshape(-1), unit_rows(features))
    return unit_rows(sums), keys[:, 0], keys[:, 1]


def count_similarities(values: NDArray[np.floating[Any]]) -> Counts:
    """Similarities, counted in the bins."""
    return np.bincount(_bin(values).ravel(), minlength=BINS).astype(np.int64)


def draw_similarities(found: Similarities, path: Path, *, title: str) -> None:
    """Draw both distributions and the threshold, as a PNG."""
    figure, axes = new_axes(6.8, 3.4)
    used = np.flatnonzero(found.mated + found.non_mated)
    spread = int(used[-1] - used[0]) if len(used) else BINS
    coarse = BINS // next((step for step in (40, 20, 10, 5, 4, 2) if spread >= _BARS * step), 1)
    places = np.linspace(-1, 1, coarse, endpoint=False) + 1 / coarse
    kinds = (("different people", found.non_mated, "#c8501e"), ("the same person", found.mated, "#1f5fa8"))
    for label, counts, colour in kinds:
        shares = counts.reshape(coarse, -1).sum(axis=1) / max(1, counts.sum())
        axes.bar(places, shares, width=2 / coarse, color=colour, alpha=0.55, label=f"{label}, {counts.sum():,} pairs")
    threshold = found.threshold()
    rates = (float(rate(threshold)) for rate in (found.false_match_rate, found.true_match_rate))
    false, true = ("\u2013" if math.isnan(rate) else f"{rate:.1%}" for rate in rates)
    axes.axvline(threshold, color="#333333", linewidth=1, linestyle="--")
    said = f"from {threshold:.3f} on, {false} of different people match, {true} of the same"
    axes.set_title(f"{title}\n{said}", fontsize=10)
    if len(used):
        margin = spread / BINS / 10
        axes.set_xlim(_edge(int(used[0])) - margin, min(1.0, _edge(int(used[-1]) + 1)) + margin)
    axes.set_xlabel("cosine similarity")
    axes.set_ylabel("share of the pairs")
    axes.legend(fontsize=9, frameon=False)
    save(figure, path)


def unit_rows(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(N, D) rows divided by their L2 norms, as float32; rows of zeros stay so."""
    values = features.astype(np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(norms, 1e-12), np.float32)


def _bin(similarity: Any) -> NDArray[np.int64]:
    return np.clip(np.floor((np.asarray(similarity) + 1) * (BINS / 2)), 0, BINS - 1).astype(np.int64)


def _edge(place: int) -> float:
    return round(place * 2 / BINS - 1, 9)


def _share_from(counts: Counts, similarity: Any) -> NDArray[np.float64]:
    total = int(counts.sum())
    if not total:
        return np.full(np.shape(similarity), np.nan)
    above = np.append(np.cumsum(counts[::-1])[::-1], 0)
    # A little above, so that the edge of a bin, a rounded number, is in its own bin.
    place = np.clip(np.floor((np.asarray(similarity, np.float64) + 1) * (BINS / 2) + 1e-6), 0, BINS).astype(np.int64)
    return np.asarray(above[place] / total)
