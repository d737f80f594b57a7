"""What mode=find leaves and says: pictures of the matches, matches.json and .csv, and the table on the console."""

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from watchme.core.formatting import UNDEFINED, clock
from watchme.core.interfaces import Detector, Job
from watchme.core.spacing import evenly
from watchme.engines.person_search.config import Config
from watchme.inference.clips import write_clip
from watchme.inference.frames import FrameSource, Image8
from watchme.inference.match_confidence import Certainty
from watchme.inference.match_pictures import Shown, draw_matches, write_crop
from watchme.inference.match_results import TABLE, Found, Match, Span, Stretch, write_found
from watchme.inference.matching import Appearance, Ranking
from watchme.inference.query import QueryPicture
from watchme.inference.sightings import Sightings

log = logging.getLogger(__name__)

People = Callable[[Image8], NDArray[np.float32]]

# Pictures of one appearance, of those that do not match, and lines on the console.
_EACH, _OTHERS, _LINES = 8, 12, 10
# People to blur are looked for from this confidence on: one too many does no harm.
_BLUR_CONFIDENCE = 0.05


@dataclass(frozen=True, eq=False)
class Outcome:
    """A search that was made."""

    sightings: Sightings  # all
    ranking: Ranking  # those that are listed
    appearances: list[Appearance]  # the most similar first
    certainty: Certainty  # what similarities are worth
    threshold: float  # the similarity from which on a sighting matches; NaN where there is none
    about: str  # how it was searched

    @property
    def expected_false(self) -> float:
        """Sightings that would match if all were of other people; NaN where nothing is known."""
        similarities = self.certainty.similarities
        if similarities is None or math.isnan(self.threshold):
            return math.nan
        return float(similarities.false_match_rate(self.threshold)) * len(self.sightings)


def write_outcome(
    job: Job, source: FrameSource, detector: Detector, queries: Sequence[QueryPicture], outcome: Outcome
) -> None:
    """Write pictures, matches.json and matches.csv into the run folder; the report makes matches.html of them."""
    config = cast(Config, job.config)
    shown = _shown(outcome, config.find.topk)
    ranks = sorted({rank for each in shown[0] for rank in each} | set(shown[1]))
    others = _people(detector) if config.blur_others else None
    files = draw_matches(source, [_picture(outcome, rank) for rank in ranks], others, job.folder)
    crops = {}
    for number, picture in enumerate(queries, 1):
        name = picture.name if picture.name not in crops else f"{picture.name} ({number})"
        crops[name] = f"matches/query{number}.jpg"
        write_crop(picture.crop, job.folder / crops[name])
    listed = max(int(outcome.ranking.is_match.sum()), max(ranks, default=0))
    higher = outcome.certainty.higher_than(outcome.ranking.similarity[:listed]).tolist()
    matches = tuple(_match(outcome, rank, share, files.get(rank, ("", ""))) for rank, share in enumerate(higher, 1))
    clips = _clips(job, config, source, outcome, others)
    spans = tuple(
        _span(outcome, each, own, clips.get(number, ""))
        for number, (each, own) in enumerate(zip(outcome.appearances, shown[0], strict=True))
    )
    write_found(
        Found(
            folder=job.folder,
            source=str(config.source),
            frames=len(outcome.sightings.frame_index),
            sightings=len(outcome.sightings),
            queries=crops,
            threshold=outcome.threshold,
            origin=outcome.certainty.origin if config.find.threshold is None else "find.threshold",
            expected_false=outcome.expected_false,
            search=outcome.about,
            matches=matches,
            appearances=spans,
        )
    )


def log_outcome(outcome: Outcome) -> None:
    """Say what was found, in lines of at most 80 columns."""
    log.info("")
    log.info("%d sightings in %d frames", len(outcome.sightings), len(outcome.sightings.frame_index))
    if math.isnan(outcome.threshold):
        log.info("Not calibrated: nobody is called a match; the most similar sightings:")
        _log_most_similar(outcome)
        return
    log.info("A match from a similarity of %.3f on%s", outcome.threshold, _by(outcome))
    if not math.isnan(outcome.expected_false):
        text = "Of other people alone, about %.0f of these sightings would match by chance"
        log.info(text, outcome.expected_false)
    matches = int(outcome.ranking.is_match.sum())
    log.info("Matches: %d, in appearances: %d, the most similar first:", matches, len(outcome.appearances))
    if not outcome.appearances:
        log.info("  none; the most similar sightings:")
        _log_most_similar(outcome)
        return
    log.info("  %-21s %-17s %9s  %-10s %s", "time", "frames", "sightings", "similarity", "higher than")
    for each in outcome.appearances[:_LINES]:
        when = f"{clock(each.start_s)} to {clock(each.end_s)}" if math.isfinite(each.start_s) else UNDEFINED
        frames = f"{each.first_frame} to {each.last_frame}"
        sure = outcome.certainty.in_words(each.similarity)
        log.info("  %-21s %-17s %9d  %-10.3f %s", when, frames, each.sightings, each.similarity, sure)
    if len(outcome.appearances) > _LINES:
        log.info("  and %d more in %s", len(outcome.appearances) - _LINES, TABLE)


def _by(outcome: Outcome) -> str:
    if outcome.certainty.similarities is None or outcome.threshold != outcome.certainty.threshold:
        return " (find.threshold)"
    return f", as {outcome.certainty.rate:.1%}".replace(".0%", "%") + " of different people are:"


def _log_most_similar(outcome: Outcome) -> None:
    sightings, ranking = outcome.sightings, outcome.ranking
    for rank in _others(outcome, _LINES):
        place, similarity = int(ranking.place[rank - 1]), float(ranking.similarity[rank - 1])
        when = clock(float(sightings.time[place])).rjust(9)
        log.info(
            "  %s  %-40s %.3f  %s",
            when,
            sightings.name(place)[-40:],
            similarity,
            outcome.certainty.in_words(similarity),
        )


def _shown(outcome: Outcome, most: int) -> tuple[list[list[int]], list[int]]:
    """Ranks that get a picture: of each appearance some, evenly over its time, and some that do not match."""
    ranking = outcome.ranking
    rank_of = {place: rank for rank, place in enumerate(ranking.place.tolist(), 1)}
    own: list[list[int]] = []
    left = most
    for each in outcome.appearances:
        ranks = [rank_of[place] for place in each.places]
        count = min(_EACH, len(ranks), max(0, left), max(1, most // max(1, min(len(outcome.appearances), 6))))
        taken = [ranks[place] for place in evenly(len(ranks), count)]
        left -= len(taken)
        own.append(taken)
    return own, _others(outcome, min(_OTHERS if outcome.appearances else most, most))


def _others(outcome: Outcome, most: int) -> list[int]:
    """Ranks of the most similar sightings that do not match, of each moment and each track one."""
    ranking, sightings = outcome.ranking, outcome.sightings
    taken: list[int] = []
    frames: list[int] = []
    tracks: set[int] = set()  # of a video
    apart = 1 if np.isnan(sightings.time).all() else max(1, len(sightings.frame_index) // 200)
    for number in np.flatnonzero(~ranking.is_match).tolist():
        place = int(ranking.place[number])
        frame, track = int(sightings.frame[place]), int(sightings.track[place])
        if track not in tracks and all(abs(frame - other) >= apart for other in frames):
            taken.append(number + 1)
            frames.append(frame)
            tracks.add(track)
            if len(taken) == most:
                break
    return taken


def _people(detector: Detector) -> People:
    def find(image: Image8) -> NDArray[np.float32]:
        (rows,) = detector.detect([image])
        return rows[rows[:, 4] >= _BLUR_CONFIDENCE, :4]

    return find


def _picture(outcome: Outcome, rank: int) -> Shown:
    place = int(outcome.ranking.place[rank - 1])
    sightings = outcome.sightings
    text = f"{float(outcome.ranking.similarity[rank - 1]):.3f}"
    return Shown(
        rank, int(sightings.frame[place]), float(sightings.time[place]), tuple(sightings.box[place].tolist()), text
    )


def _match(outcome: Outcome, rank: int, higher_than: float, files: tuple[str, str]) -> Match:
    sightings, ranking = outcome.sightings, outcome.ranking
    place, similarity = int(ranking.place[rank - 1]), float(ranking.similarity[rank - 1])
    x1, y1, x2, y2 = sightings.box[place].tolist()
    return Match(
        rank=rank,
        frame=int(sightings.frame[place]),
        name=sightings.name(place),
        time_s=float(sightings.time[place]),
        box=(x1, y1, x2, y2),
        score=float(sightings.score[place]),
        similarity=similarity,
        higher_than=higher_than,
        is_match=bool(ranking.is_match[rank - 1]),
        track=int(sightings.track[place]),
        crop=files[0],
        picture=files[1],
    )


def _clips(job: Job, config: Config, source: FrameSource, outcome: Outcome, others: People | None) -> dict[int, str]:
    """Number of an appearance -> its clip below the run folder."""
    if config.find.clips and source.kind != "video":
        job.fallback("find.clips cuts videos; of pictures, and of a camera, which cannot be seen again, there are none")
        return {}
    clips = {}
    sightings = outcome.sightings
    for number, each in enumerate(outcome.appearances[: config.find.clips]):
        first, last = np.searchsorted(sightings.frame_index, [each.first_frame, each.last_frame + 1])
        indices, times = sightings.frame_index[first:last], sightings.frame_time[first:last]
        boxes = {int(sightings.frame[place]): sightings.box[place].tolist() for place in each.places}
        name = f"matches/clip{number + 1}.webm"
        fps = (source.fps or 25.0) / config.predict.stride
        frames = dict(zip(indices.tolist(), times.tolist(), strict=True))
        if write_clip(job.folder / name, source, frames, boxes, others, fps):
            clips[number] = name
    return clips


def _span(outcome: Outcome, each: Appearance, ranks: Sequence[int], clip: str) -> Span:
    shared = {field.name: getattr(each, field.name) for field in dataclasses.fields(Stretch)}
    return Span(
        **shared,
        higher_than=float(outcome.certainty.higher_than(each.similarity)),
        ranks=tuple(ranks),
        clip=clip,
    )
