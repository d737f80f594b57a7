"""mode=find: where a person is seen in pictures or a video, how similar, and how sure that is."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from watchme.core.interfaces import Detector, Embedder, Job, Result
from watchme.engines.person_search.config import Config
from watchme.engines.person_search.detector_and_reid import (
    load_detector,
    load_embedder,
    pipeline_settings,
    weights_files,
)
from watchme.engines.person_search.find_outputs import Outcome, log_outcome, write_outcome
from watchme.inference.demo import demo_film, is_demo
from watchme.inference.frames import FrameSource
from watchme.inference.index import open_index
from watchme.inference.match_confidence import SAME_PERSON_RATE, Certainty, of_frames, of_run
from watchme.inference.matching import Ranking, appearances, of_persons, track_means
from watchme.inference.multi_object_tracking import find_tracks, tell_apart
from watchme.inference.pipeline import Settings
from watchme.inference.query import embed_queries, read_queries
from watchme.inference.record import open_store, record_sightings
from watchme.inference.sightings import EMBEDDINGS, Sightings, SightingsWriter, load, merge
from watchme.inference.sources import open_source
from watchme.io.files import locked
from watchme.metrics.verification import Similarities

log = logging.getLogger(__name__)

# Sightings that are listed at most: all that anybody will look at.
_MOST = 20_000
# The threshold is doubted where so many times the promised share of strangers of the source itself reach it.
_SUSPICIOUS = 3.0

Vectors = NDArray[np.float32]


def find(job: Job) -> Result:
    """Find the person of `query` in `source`; see docs/find.md.

    Raises:
        CheckpointError: If a weights file is not of its kind, or a calibration cannot be read.
        DataError: If the source or a query picture cannot be read.
        RunFolderError: If `index` holds sightings of something else.
    """
    config = cast(Config, job.config)
    assert config.source is not None
    assert config.reid is not None
    source = open_source(config.source)
    measured = _measured(config), _measured(config, means=True)
    store = job.folder if config.index is None else Path(config.index).expanduser()
    settings = pipeline_settings(config)
    with _held(store, job.folder):
        writer = open_store(store, source, settings, weights_files(config))
        detector, embedder = load_detector(job), load_embedder(job)
        queries = read_queries(_given(config), detector, settings.confidence, config.query_person)
        for note in filter(None, (picture.note for picture in queries)):
            job.fallback(note)
        query = embed_queries(queries, embedder)
        job.begin()
        _fill(writer, source, detector, embedder, settings)
        for text in source.faults:
            job.fallback(text)
        began = time.perf_counter()
        sightings, means = _who_is_who(job, config, _merged(store, writer), measured)
        certainty = _certainty(job, config, measured[means is not None], sightings, means)
        outcome = _search(job, config, store, sightings, query, certainty, means)
        seconds = time.perf_counter() - began
    write_outcome(job, source, detector, queries, outcome)
    log_outcome(outcome)
    counts = {
        "frames": len(sightings.frame_index),
        "sightings": len(sightings),
        "matches": int(outcome.ranking.is_match.sum()),
        "appearances": len(outcome.appearances),
    }
    metrics = {f"find/{name}": float(count) for name, count in counts.items()}
    cards = [(name, f"{count:,}", "") for name, count in counts.items()]
    return Result({**metrics, "perf/search_s": seconds}, math.nan, details={"cards": cards})


@contextlib.contextmanager
def _held(store: Path, folder: Path) -> Iterator[None]:
    """Keep other processes out of an index while it is built and searched; a run folder has its own lock."""
    if store == folder:
        yield
        return
    store.mkdir(parents=True, exist_ok=True)
    with locked(store):
        yield


def _given(config: Config) -> list[str]:
    given = list(config.query) if isinstance(config.query, list) else [str(config.query)]
    return [str(demo_film().portraits[0]) if is_demo(each) else each for each in given]


def _measured(config: Config, *, means: bool = False) -> Similarities | None:
    """The similarities that the re-ID run has measured, or that are named; None where the source must do.

    Args:
        config: Of the run.
        means: Those of means of images, as of a track.
    """
    named = config.find.calibration
    if named == "source":
        return None
    weights = weights_files(config)["reid"]
    assert weights is not None
    return of_run(weights, None if named is None else Path(named).expanduser(), means=means)


def _fill(
    writer: SightingsWriter, source: FrameSource, detector: Detector, embedder: Embedder, settings: Settings
) -> None:
    """Go through the source, unless that was done before."""
    if writer.complete:
        log.info("%d sightings in %d frames are in the index already", writer.sightings, writer.frames)
        return
    record_sightings(source, detector, embedder, writer, settings)


def _merged(store: Path, writer: SightingsWriter) -> Sightings:
    if not (store / EMBEDDINGS).is_file():
        tracks = find_tracks(writer.chunks()).of
        merge(store, tracks, np.full(len(tracks), -1, np.int64))
    return load(store)


def _who_is_who(
    job: Job, config: Config, sightings: Sightings, measured: tuple[Similarities | None, Similarities | None]
) -> tuple[Sightings, Vectors | None]:
    """The sightings with their tracks and persons, and the (P, D) means of persons by which they are compared.

    None where each is compared alone: pictures have no tracks, and a threshold for single images is too low for means,
    which are more alike. Without a calibration each track is a person.
    """
    assert sightings.embedding is not None
    if not np.isfinite(sightings.time).any():
        return sightings, None
    if measured[0] is not None and measured[1] is None:
        job.fallback(
            f"the calibration of {config.reid} is by an older version and holds for single images alone: each sighting "
            "is compared alone, not by the mean of its track. mode=evaluate of the re-ID model writes one that holds "
            "for both: find.calibration=<its run folder>"
        )
        return sightings, None
    if measured[1] is None:
        return replace(sightings, person=sightings.track), track_means(sightings.track, sightings.embedding)
    same_person = measured[1].threshold(SAME_PERSON_RATE)
    tracks, persons = tell_apart(sightings, same_person)
    return replace(sightings, track=tracks, person=persons), track_means(persons, sightings.embedding)


def _certainty(
    job: Job, config: Config, measured: Similarities | None, sightings: Sightings, means: Vectors | None
) -> Certainty:
    """What similarities are worth; what it rests on, and what speaks against it, is announced."""
    asked = config.find
    assert sightings.embedding is not None
    rows = None if means is None else sightings.person - 1
    own = of_frames(sightings.frame, sightings.box, sightings.embedding if means is None else means, rows)
    pairs = f"{int(own.non_mated.sum()):,} pairs of people who are seen in one frame"
    if measured is not None:
        found = Certainty(measured, _origin(measured, means), asked.false_match_rate)
        here = float(own.false_match_rate(found.threshold)) if own.is_sound else 0.0
        if here > _SUSPICIOUS * asked.false_match_rate:
            job.fallback(
                f"of {pairs} of this source, and so are different people, {here:.0%} are as similar as a match: it is "
                f"less sure here than on {found.origin}. find.calibration=source raises the threshold accordingly"
            )
        return found
    if not own.is_sound:
        job.fallback(
            f"not calibrated: {config.reid} has no calibration.json, and {pairs} are too few; sightings are ranked, "
            "and none is called a match unless find.threshold=<similarity> says from where on"
        )
        return Certainty(None, "", asked.false_match_rate)
    if asked.calibration is None:
        job.fallback(
            f"{config.reid} has no calibration.json, which a training or an evaluation by this version writes; the "
            f"threshold is that of {pairs}"
        )
    return Certainty(own, f"{pairs} of this source", asked.false_match_rate)


def _origin(measured: Similarities, means: Vectors | None) -> str:
    pairs = f"{int(measured.non_mated.sum()):,} pairs" + ("" if means is None else " (an image, a camera's mean)")
    return f"{pairs} of {measured.identities} people of the re-ID run's {measured.split} split"


def _search(
    job: Job,
    config: Config,
    store: Path,
    sightings: Sightings,
    query: Vectors,
    certainty: Certainty,
    means: Vectors | None,
) -> Outcome:
    assert sightings.embedding is not None
    threshold = certainty.threshold if config.find.threshold is None else config.find.threshold
    index = open_index(sightings.embedding if means is None else means, store, config.find.search)
    hits, about = index.search(query, _MOST), index.about
    if means is not None:
        log.info("Sightings are compared by the mean of their person, one of %d who were found", len(means))
        hits, about = of_persons(hits, sightings, query, _MOST), f"{about}, with the means of {len(means):,} persons"
    is_match = hits.similarity >= threshold  # nobody where it is NaN
    if len(is_match) == _MOST and bool(is_match.all()):
        job.fallback(f"more than {_MOST:,} sightings match; the most similar {_MOST:,} are listed")
    ranking = Ranking(hits.place, hits.similarity, is_match)
    found = appearances(sightings, ranking, config.find.gap_s, 1)
    return Outcome(sightings, ranking, found, certainty, threshold, about)
