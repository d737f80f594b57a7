"""Which images of a tracklet are sampled: torchreid's three methods."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import ReidDataset


def sample_frames(count: int, length: int, method: str, rng: np.random.Generator) -> list[int]:
    """Numbers of the images taken of a tracklet, in order of time.

    Args:
        count: Images that it has.
        length: Images wanted.
        method: `evenly`: at equal distances, a short tracklet's last image repeated; `random`: drawn, with repetition
            only where there are too few; `all`: every image, whatever `length` says.
        rng: Decides for `random`.
    """
    if method == "all":
        return list(range(count))
    if method == "random":
        return sorted(rng.choice(count, length, replace=count < length).tolist())
    if count < length:
        return [*range(count), *[count - 1] * (length - count)]
    return list(range(0, count // length * length, count // length))


def thinned(crops: Sequence[Crop], dataset: ReidDataset) -> list[Crop]:
    """Tracklets with the images that are evaluated, the same ones each time; single images as they are."""
    if not dataset.tracklets:
        return list(crops)
    made = []
    for number, crop in enumerate(crops):
        rng = np.random.default_rng((0, number))
        chosen = sample_frames(len(crop.frames), dataset.seq_len, dataset.sample_method, rng)
        made.append(replace(crop, frames=tuple(crop.frames[place] for place in chosen)))
    return made
