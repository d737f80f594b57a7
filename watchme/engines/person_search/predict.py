"""mode=predict: people in one's own pictures and videos, by a detector and, with `reid`, who of them is who."""

import contextlib
import logging
import math
import time
from pathlib import Path
from typing import cast

import numpy as np

from watchme.core.errors import CheckpointError
from watchme.core.formatting import clock
from watchme.core.interfaces import Job, Picture, Result, Table
from watchme.engines.person_search.config import Config
from watchme.engines.person_search.detector_and_reid import (
    load_detector,
    load_embedder,
    pipeline_settings,
    weights_files,
)
from watchme.inference import outputs
from watchme.inference.frames import Frame, FrameSource
from watchme.inference.match_confidence import SAME_PERSON_RATE, of_run
from watchme.inference.multi_object_tracking import find_tracks, tell_apart
from watchme.inference.record import open_store, record_sightings
from watchme.inference.sightings import Seen, Sightings, SightingsWriter, load, merge
from watchme.inference.sources import open_source
from watchme.inference.visualization import LiveShow, Shown, Wanted, show
from watchme.io.run_lookup import CALIBRATION, folder_of

log = logging.getLogger(__name__)

# A guess that no data has confirmed, for weights without a calibration.json; announced where it is used.
_SAME_PERSON = 0.65


def predict(job: Job) -> Result:
    """Find people in `source`; see docs/predict.md.

    Raises:
        CheckpointError: If a weights file is not of its kind; it names the key.
        DataError: If the source cannot be read.
        RunFolderError: If the folder holds sightings of something else.
    """
    config = cast(Config, job.config)
    asked = config.predict
    assert config.source is not None
    source = open_source(config.source)
    settings = pipeline_settings(config)
    writer = open_store(job.folder, source, settings, weights_files(config))
    detector = load_detector(job)
    embedder = None if config.reid is None else load_embedder(job)
    same_person = None if embedder is None else _same_person(job, config)
    job.begin()
    job.record("dataset", {"name": config.dataset.name, "root": source.given, "kind": source.kind})
    wanted = Wanted("drawn" in asked.save, "frames" in asked.save, asked.video, asked.pictures, asked.stride)
    before, began = writer.frames, time.perf_counter()
    with _Watching(job.folder, config, writer, source, wanted) as watching:
        record_sightings(source, detector, embedder, writer, settings, watching.watch)
    seconds, frames = time.perf_counter() - began, writer.frames - before
    for text in source.faults:
        job.fallback(text)
    found = _who_is_who(job.folder, writer, same_person)
    people, pages = ([], watching.shown) if source.kind == "live" else show(source, found, job.folder, wanted)
    _write(job, config, found)
    for each in (*people, *pages):
        job.show(Picture(each.name, each.path, each.caption))
    return _result(job, found, frames / seconds if frames else math.nan)


class _Watching:
    """What is written while a source is gone through: lines of predictions.jsonl, and the drawn video of a camera."""

    def __init__(
        self, folder: Path, config: Config, writer: SightingsWriter, source: FrameSource, wanted: Wanted
    ) -> None:
        self.shown: list[Shown] = []
        self._lines = "jsonl" in config.predict.save
        self._path = folder / outputs.JSONL
        self._writer = writer
        self._live = LiveShow(folder, wanted, source.fps) if source.kind == "live" else None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Watching":
        if self._lines:
            # As far as the store goes: a killed process may have written a few lines more.
            outputs.write_jsonl(self._path, self._writer.chunks())
            self._file = self._stack.enter_context(self._path.open("a", encoding="utf-8"))
        return self

    def watch(self, batch: list[tuple[Frame, Seen]]) -> None:
        """Take note of a batch."""
        if self._lines:
            outputs.write_lines(self._file, outputs.of_batch([seen for _, seen in batch]))
            self._file.flush()
        if self._live is not None:
            self._live.watch(batch)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._live is not None:
            self.shown = self._live.close()


def _same_person(job: Job, config: Config) -> float:
    """The similarity from which tracks are one person."""
    chosen, source = config.predict.same_person, "predict.same_person"
    reid = weights_files(config)["reid"]
    assert reid is not None
    if chosen is None:
        with contextlib.suppress(CheckpointError):
            if (measured := of_run(reid, means=True) or of_run(reid)) is not None:
                source = str(cast(Path, folder_of(reid)) / CALIBRATION)
                chosen = measured.threshold(SAME_PERSON_RATE)
    if chosen is None:
        chosen, source = _SAME_PERSON, "default"
        job.fallback(
            f"reid: {reid} has no usable {CALIBRATION} in its run's folder: tracks count as one person from a cosine "
            f"similarity of {chosen} on; predict.same_person=... sets it"
        )
    job.record("same_person", {"similarity": chosen, "from": source})
    return chosen


def _who_is_who(folder: Path, writer: SightingsWriter, same_person: float | None) -> Sightings:
    """All sightings, with their tracks and, by embeddings, their persons."""
    tracks = find_tracks(writer.chunks())
    merge(folder, tracks.of, np.full(len(tracks.of), -1, np.int64))
    if same_person is not None and tracks.means is not None:
        # Of the file that is written by now, whose embeddings need not be in memory.
        merge(folder, *tell_apart(load(folder), same_person))
    return load(folder)


def _write(job: Job, config: Config, found: Sightings) -> None:
    """The files of `predict.save`."""
    if "jsonl" in config.predict.save:
        outputs.write_jsonl(job.folder / outputs.JSONL, [found])
    if "yolo" in config.predict.save:
        outputs.write_yolo(job.folder, found)
    if "coco" in config.predict.save:
        outputs.write_coco(job.folder, found)
    if "parquet" in config.predict.save:
        outputs.write_parquet(job.folder / outputs.PARQUET, outputs.sighting_rows(found))


def _result(job: Job, found: Sightings, speed: float) -> Result:
    frames, sightings = len(found.frame_index), len(found)
    persons = int(found.person.max(initial=0))
    with_people = len(np.unique(found.frame))
    rows = []
    for person in range(1, persons + 1):
        own = np.flatnonzero(found.person == person)
        first, last = (found.name(int(each)) for each in (own[0], own[-1]))
        tracks = len(np.unique(found.track[own]))
        rows.append((person, len(own), tracks, float(found.time[own[0]]), float(found.time[own[-1]]), first, last))
    if rows:
        columns = ("person", "sightings", "tracks", "first s", "last s", "first frame", "last frame")
        job.show(Table("predict/people", columns, tuple(rows)))
    cards = [("frames", f"{frames:,}", f"{with_people:,} of them with people"), ("sightings", f"{sightings:,}", "")]
    if persons:
        cards.append(("persons", f"{persons:,}", "distinguished by their looks"))
    if not math.isnan(speed):
        cards.append(("frames a second", f"{speed:.1f}", "reading, detecting and embedding"))
    length = found.frame_time[-1] if frames else math.nan
    took = f"{frames:,} frames" if math.isnan(length) else f"{frames:,} frames, {clock(float(length))} of video"
    text = f"{sightings:,} sightings of people in {took}" + (f", {persons:,} persons" if persons else "")
    metrics = {"predict/frames": float(frames), "predict/sightings": float(sightings)}
    metrics |= {"predict/persons": float(persons)} if persons else {}
    metrics |= {} if math.isnan(speed) else {"perf/frames_per_s": speed}
    pace = "" if math.isnan(speed) else f"; {speed:.1f} frames a second ({1000 / speed:.0f} ms each)"
    return Result(metrics, math.nan, details={"headline": text + pace, "cards": cards})
