"""mode=embed: features of one's own crops of people, by any re-ID model."""

import contextlib
import logging
import math
import time
from typing import cast

import numpy as np

from watchme.core.errors import DataError
from watchme.core.interfaces import Job, Result
from watchme.core.progress import Progress
from watchme.engines.person_search.config import Config
from watchme.engines.person_search.detector_and_reid import load_embedder
from watchme.inference.outputs import PARQUET, write_parquet
from watchme.inference.pipeline import embeddings_of
from watchme.inference.sightings import EMBEDDINGS
from watchme.inference.sources import open_source
from watchme.io.files import replacing

log = logging.getLogger(__name__)


def embed(job: Job) -> Result:
    """Embed each picture of `source`, whole: `embeddings.npz` with `name` (N,) and `embedding` (N, D) of unit norm.

    Raises:
        CheckpointError: If `reid` is no re-ID model.
        DataError: If the source cannot be read, or is no pictures.
    """
    config = cast(Config, job.config)
    assert config.source is not None
    source = open_source(config.source)
    if source.kind != "pictures":
        raise DataError(f"source: mode=embed takes pictures of one person each; for {source.given} use mode=predict")
    embedder = load_embedder(job)
    job.begin()
    names: list[str] = []
    parts = []
    began = time.perf_counter()
    bar = Progress("Crops", source.length, "crop")
    with bar, contextlib.closing(embeddings_of(source, embedder, config.predict.crop_batch)) as batches:
        for batch, features in batches:
            names += [frame.name for frame in batch]
            parts.append(features)
            bar.update(len(batch))
    seconds = time.perf_counter() - began
    for text in source.faults:
        job.fallback(text)
    embeddings = np.concatenate(parts)
    with replacing(job.folder / EMBEDDINGS) as temporary, temporary.open("wb") as file:
        np.savez(file, name=np.array(names), embedding=embeddings)
    if "parquet" in config.predict.save:
        write_parquet(job.folder / PARQUET, [{"name": np.array(names), "embedding": embeddings}])
    counts = {"embed/crops": float(len(names)), "embed/dimensions": float(embeddings.shape[1])}
    headline = f"{len(names):,} crops embedded, {embeddings.shape[1]} numbers each: {job.folder / EMBEDDINGS}"
    cards = [
        ("crops", f"{len(names):,}", f"{embeddings.shape[1]} numbers each"),
        ("crops a second", f"{len(names) / seconds:.1f}", "reading and embedding"),
    ]
    details = {"headline": headline, "cards": cards}
    return Result({**counts, "perf/crops_per_s": len(names) / seconds}, math.nan, details=details)
