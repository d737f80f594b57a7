"""What a similarity is worth: the distributions of a model's similarities, kept beside its metrics."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from watchme.core.interfaces import Job, Picture
from watchme.engines.osnet.data.crop_images import Gallery
from watchme.engines.osnet.embed_and_rank import ids_of
from watchme.io.files import replace_json
from watchme.io.run_lookup import CALIBRATION, CALIBRATION_MEANS
from watchme.metrics.verification import Similarities, compare_pairs, draw_similarities, mean_by_camera

log = logging.getLogger(__name__)

_KEPT = ("split", "identities", "mated_pairs", "non_mated_pairs", "threshold", "false_match_rate", "true_match_rate")


def calibrate(
    job: Job, galleries: Mapping[str, Gallery], features: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """Write `calibration.json`: queries against gallery images of other cameras, of all splits together.

    As `means` it holds the same of queries and the mean of each other camera's images of an identity, for searches that
    compare tracks. Only people who are among the queries count: a validation's distractors were trained on.

    Args:
        job: The run.
        galleries: Split -> its images.
        features: Split -> (Q, D) and (G, D) embeddings on the CPU.

    Returns:
        For the summary's details: the threshold at a false match rate of 1%, the rates there, and of what.
    """
    parts = [_similarities(galleries[split], *features[split], split) for split in galleries]
    found, means = (sum(each[1:], start=each[0]) for each in zip(*parts, strict=True))
    content = found.as_json()
    replace_json(job.folder / CALIBRATION, {**content, CALIBRATION_MEANS: means.as_json()})
    kept = {"calibration": {name: content[name] for name in _KEPT}}
    pairs, true = content["non_mated_pairs"], content["true_match_rate"]
    if not found.is_sound:
        text = "calibration: %d pairs of different people by different cameras in %s are too few for a threshold"
        log.info(text, pairs, found.split)
    else:
        text = "Similarities of %s: 1%% of different people are above %.3f, and %s of the same"
        log.info(text, found.split, content["threshold"], "none" if math.isnan(true) else f"{true:.1%}")
    if not pairs:
        return kept
    path = job.folder / "evaluation" / "similarities.png"
    draw_similarities(found, path, title=f"{job.config.model.name} on {job.config.dataset.name}, {found.split}")
    name = f"{found.split.partition('/')[0]}/similarities"
    job.show(Picture(name, path, "Similarity of pairs from different cameras; dashed: 1% false matches"))
    return kept


def _similarities(data: Gallery, query: Tensor, gallery: Tensor, split: str) -> tuple[Similarities, Similarities]:
    """Of queries and gallery images, and of queries and the means of these."""
    ids = ids_of(data.query.crops, data.gallery.crops)
    pids, gallery_pids, cams, gallery_cams = (part.numpy() for part in ids)
    images = gallery.numpy(), gallery_pids, gallery_cams
    single, mean = (
        compare_pairs(query.numpy(), features, pids, other_pids, cams, other_cams, split)
        for features, other_pids, other_cams in (images, mean_by_camera(*images))
    )
    return single, mean
