"""Validation identities held out of the training set, so that the best epoch is not selected on the test split."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from watchme.core.errors import DataError
from watchme.core.metric_names import SAME_CAMERA
from watchme.data.formats.market1501 import Crop

# Distractors for each image of a held-out identity, where there are so many.
_DISTRACTORS = 5


@dataclass(frozen=True)
class Holdout:
    """Training images without the held-out identities, and these as queries and gallery.

    `distractors` are training images that join the gallery: among a few identities alone anyone is soon found, and a
    solved validation selects nothing. They match no query, so that they cannot help a model that knows them.
    `same_camera` says that no identity is seen by two cameras, so that queries match images of their own camera.
    """

    train: list[Crop]
    query: list[Crop]
    gallery: list[Crop]
    distractors: list[Crop]
    same_camera: bool = False

    @property
    def split(self) -> str:
        """The first part of the names of its metrics, which says what they measure."""
        return SAME_CAMERA if self.same_camera else "val"


def hold_out(crops: Sequence[Crop], wanted: float, seed: int) -> Holdout:
    """Hold identities out of a training set.

    Only identities seen by at least two cameras are taken, so that each query has a match from another camera. Where
    no identity is, those with two images are: the first image by file name is the query, the last third is in the
    gallery as if another camera had taken it, and what is between them is left out, as neighbouring frames are all but
    equal. That is easier than re-identification across cameras, serves to compare epochs only, and has a name of its
    own: `Holdout.split`.

    Of several sources each gives in proportion to such identities. They are drawn in a random order that is fixed by
    the seed, each time for the camera that is least served so far in proportion to its identities. One image of each
    identity and camera is a query; the gallery is all of their images (a query's own image is of its own camera and
    so never counts).

    Args:
        crops: The training set.
        wanted: A share of the identities below 1 (in sources where two cameras see any), or a number of them.
        seed: Fixes the choice.

    Raises:
        DataError: If there are not enough such identities, or too few would be left to train on.
    """
    cams: dict[int, set[int]] = defaultdict(set)
    source: dict[int, int] = {}
    for crop in crops:
        cams[crop.pid].add(crop.cam)
        source[crop.pid] = crop.dataset
    eligible, same_camera = _eligible(crops, cams)
    usable = {source[pid] for pid in eligible}
    count = round(wanted * sum(source[pid] in usable for pid in cams)) if wanted < 1 else int(wanted)
    count = max(count, 2)
    if count > len(eligible):
        raise DataError(
            f"dataset.val_identities={wanted:g} asks for {count} identities, but only {len(eligible)} of {len(cams)} "
            f"{'have two images' if same_camera else 'are seen by two cameras'}; lower it, or 0 for no validation split"
        )
    if len(cams) - count < 2:
        raise DataError(
            f"dataset.val_identities={wanted:g} leaves {len(cams) - count} identities to train on; lower it"
        )
    chosen: set[int] = set()
    for number, share in _shares(Counter(source[pid] for pid in eligible), count).items():
        rng = random.Random(f"val-{seed}-{number}" if number else f"val-{seed}")
        chosen |= _stratified([pid for pid in eligible if source[pid] == number], cams, share, rng)
    train = [crop for crop in crops if crop.pid not in chosen]
    gallery = [crop for crop in crops if crop.pid in chosen]
    query, gallery = _first_against_last(gallery) if same_camera else (_one_of_each_camera(gallery), gallery)
    rng = random.Random(f"distractors-{seed}")
    distractors = sorted(rng.sample(train, min(len(train), _DISTRACTORS * len(gallery))), key=lambda crop: crop.path)
    return Holdout(train, query, gallery, distractors, same_camera)


def _eligible(crops: Sequence[Crop], cams: Mapping[int, set[int]]) -> tuple[list[int], bool]:
    """Identities that two cameras see, or where there are none, those with two images; and whether it is the latter."""
    if seen_by_two := sorted(pid for pid, seen in cams.items() if len(seen) >= 2):
        return seen_by_two, False
    images = Counter(crop.pid for crop in crops)
    return sorted(pid for pid, count in images.items() if count >= 2), True


def _one_of_each_camera(crops: Sequence[Crop]) -> list[Crop]:
    """The first image of each identity and camera."""
    first: dict[tuple[int, int], Crop] = {}
    for crop in crops:
        first.setdefault((crop.pid, crop.cam), crop)
    return list(first.values())


def _first_against_last(crops: Sequence[Crop]) -> tuple[list[Crop], list[Crop]]:
    """The first image of each identity as a query, and its last third as a gallery of another camera."""
    views: dict[int, list[Crop]] = defaultdict(list)
    for crop in sorted(crops, key=lambda crop: crop.path):
        views[crop.pid].append(crop)
    other = 1 + max(crop.cam for crop in crops)
    last = [replace(crop, cam=crop.cam + other) for own in views.values() for crop in own[-max(1, len(own) // 3) :]]
    return [own[0] for own in views.values()], last


def _shares(sizes: Counter[int], count: int) -> dict[int, int]:
    """A number for each group in proportion to its size, `count` together (largest remainders are rounded up)."""
    exact = {group: count * size / sizes.total() for group, size in sorted(sizes.items())}
    shares = {group: int(value) for group, value in exact.items()}
    for group in sorted(exact, key=lambda group: shares[group] - exact[group])[: count - sum(shares.values())]:
        shares[group] += 1
    return shares


def _stratified(eligible: list[int], cams: dict[int, set[int]], count: int, rng: random.Random) -> set[int]:
    order = eligible[:]
    rng.shuffle(order)
    total = Counter(cam for pid in eligible for cam in cams[pid])
    served: Counter[int] = Counter()
    chosen: set[int] = set()
    while len(chosen) < count:
        # The camera whose share of chosen identities is furthest behind; ties go to the lower number.
        cam = min(total, key=lambda cam: (served[cam] / total[cam], cam))
        pid = next((pid for pid in order if cam in cams[pid] and pid not in chosen), None)
        if pid is None:
            pid = next(pid for pid in order if pid not in chosen)
        chosen.add(pid)
        served.update(cams[pid])
    return chosen
