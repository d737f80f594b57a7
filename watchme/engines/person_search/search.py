"""mode=search: how well a detector and a re-ID model together find people again, and which of them limits it."""

import logging
from pathlib import Path
from typing import cast

import numpy as np

from watchme.core.errors import DataError
from watchme.core.interfaces import Job, Picture, Result
from watchme.data.demo import ensure_demo_world
from watchme.data.person_search.readers import read_search_set
from watchme.data.person_search.search_set import SearchSet
from watchme.engines.person_search import score_tables as tables
from watchme.engines.person_search import search_plots as pictures
from watchme.engines.person_search.config import Config
from watchme.engines.person_search.detector_and_reid import load_detector, load_embedder
from watchme.engines.person_search.embed_frames import FrameFeatures, embed_frames
from watchme.engines.person_search.scores import Outcome, measure, save

log = logging.getLogger(__name__)


def search(job: Job) -> Result:
    """Evaluate `detector` and `reid` together; see docs/person_search.md.

    Raises:
        CheckpointError: If a weights file is not of its kind; it names the key.
        DataError: If the dataset cannot be read.
    """
    config = cast(Config, job.config)
    data = _read(job, config)
    seen = embed_frames(data, load_detector(job), load_embedder(job), config.evaluation, config.train.workers)
    if seen.unreadable:
        some = ", ".join(path.name for path in seen.unreadable[:5])
        job.fallback(f"{len(seen.unreadable)} unreadable frames are left out, with the queries in them: {some}")
    return _evaluate(job, config, seen)


def _read(job: Job, config: Config) -> SearchSet:
    dataset = config.dataset
    if dataset.root is None:
        assert dataset.demo is not None
        root = ensure_demo_world(dataset.demo).search
    else:
        root = Path(dataset.root)
    data = read_search_set(
        root,
        dataset.format,
        gallery_size=dataset.gallery_size,
        frame_step=dataset.frame_step,
        min_visibility=dataset.min_visibility,
        shared_ids=dataset.shared_ids,
    )
    for text in data.assumed:
        job.fallback(text)
    known = [frame.pids[frame.pids > 0] for frame in data.frames]
    counts = {
        "frames": len(data.frames),
        "people": sum(len(frame.pids) for frame in data.frames),
        "identities": len(np.unique(np.concatenate(known))),
        "queries": len(data.queries),
    }
    log.info("%s", ", ".join(f"{count} {name}" for name, count in counts.items()))
    place = {"name": dataset.name, "root": str(data.root.resolve()), "format": data.format}
    job.record("dataset", {**place, "fingerprint": data.fingerprint, **counts})
    return data


def _evaluate(job: Job, config: Config, seen: FrameFeatures) -> Result:
    outcome = measure(seen, config.evaluation)
    wanted = outcome.real.wanted
    undefined = int((wanted == 0).sum())
    if undefined == len(wanted):
        raise DataError(
            f"nobody who is looked for in {seen.data.root} is in another frame of the gallery "
            f"(evaluation.gallery={config.evaluation.gallery}), so there is nothing to measure"
        )
    if undefined:
        job.fallback(f"{undefined} of {len(wanted)} queries do not count, as the person is in no frame of the gallery")
    metrics = outcome.metrics
    _show(job, config, outcome)
    for line in tables.verdict(metrics):
        log.info("%s", line)
    if config.evaluation.save_results:
        save(outcome, job.folder / "evaluation" / "search.npz")
    details = {"verdict": " ".join(tables.verdict(metrics)), "queries": len(wanted), "undefined_queries": undefined}
    return Result(metrics, metrics[config.objective], details=details)


def _show(job: Job, config: Config, outcome: Outcome) -> None:
    folder = job.folder / "evaluation"
    file = folder / "decomposition.png"
    pictures.draw_decomposition(outcome.lost, file, title=f"Search mAP on {config.dataset.name}")
    job.show(Picture("test/decomposition", file, " ".join(tables.verdict(outcome.metrics))))
    for picture in pictures.draw_searches(outcome, config.evaluation, folder / "searches"):
        job.show(picture)
    job.show(tables.decomposition(outcome.metrics))
    job.show(tables.by_confidence(outcome, config.evaluation))
    job.show(tables.per_query(outcome))
