"""Person search: who is found again in other frames, and what of it the detector and the embedding lose.

The protocol is that of Xiao et al. (Joint Detection and Identification Feature Learning for Person Search, CVPR 2017):
a query is a person's box in its frame; the gallery holds the detections of other frames; the detection that is most
like the query among those that overlap the person by enough is a match, all else is wrong; and the average precision
is multiplied by the share of the person's appearances that have a match, so that whom the detector lost counts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from watchme.metrics.detection import Bools, Detections, Floats, Ints, People, side_by_side

Features = npt.NDArray[np.float32]

LOOSE = 0.1
"""From this IoU on a detection is about a person, if badly placed (Bolya et al., TIDE, ECCV 2020)."""
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Queries:
    """Who is looked for, and where."""

    features: Features  # (Q, D) float32, of unit length
    pids: Ints  # (Q,) int64 identities
    allowed: Bools  # (Q, F) which frames make up the gallery of each query


@dataclass(frozen=True, eq=False)
class Matches:
    """Which entries of a gallery may stand for which person."""

    entries: Ints  # numbers of gallery entries, those of a person in a row
    starts: Ints  # (P + 1,) where the entries of each person begin

    def of(self, person: int) -> Ints:
        """The entries of a person."""
        return self.entries[self.starts[person] : self.starts[person + 1]]

    @property
    def found(self) -> Bools:
        """(P,) who has any."""
        return np.diff(self.starts) > 0


@dataclass(frozen=True, eq=False)
class SearchScore:
    """The result of each query; NaN where its person is in no frame of its gallery."""

    average_precision: Floats  # (Q,) scaled by the share of appearances that have a match
    first_rank: Floats  # (Q,) 1-based rank of the first match; infinite where there is none
    wanted: Ints  # (Q,) int64, in how many frames of its gallery the person is
    matched: Ints  # (Q,) int64, how many of them have a match

    @property
    def map(self) -> float:
        """Mean of the average precisions that are defined; NaN where none is."""
        return mean(self.average_precision)

    def top(self, k: int) -> float:
        """Share of the queries whose first match is among the first `k`."""
        return mean(np.where(np.isnan(self.first_rank), np.nan, self.first_rank <= k))


def needed_iou(boxes: Floats, iou: float, *, small_boxes: bool) -> Floats:
    """(P,) IoU that a detection must reach to be a match.

    Args:
        boxes: (P, 4) of the people, pixels.
        iou: What it is as a rule.
        small_boxes: Lower it for small boxes to w h / ((w + 10) (h + 10)), as in the evaluation of CUHK-SYSU and PRW:
            what is left where a box is 10 pixels too wide and too high.
    """
    if not small_boxes:
        return np.full(len(boxes), iou)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    lowered: Floats = np.minimum(iou, width * height / ((width + 10) * (height + 10)))
    return lowered


@dataclass(frozen=True, eq=False)
class Overlap:
    """Which detections overlap which people."""

    matches: Matches  # the detections that overlap each person by enough
    near: Bools  # (P,) who has no such detection, but one that belongs to nobody and overlaps by at least `LOOSE`
    best: Ints  # (P,) the detection that overlaps each person most; -1 where none matches
    false: Bools  # (N,) detections that are nobody's best: background, doubles, and badly placed ones

    @classmethod
    def of(cls, people: People, detections: Detections, needed: Floats) -> "Overlap":
        """Compare all people with all detections of their frame."""
        best = np.full(len(people.frames), -1, np.int64)
        false = np.ones(len(detections.frames), bool)
        near = np.zeros(len(people.frames), bool)
        pairs: list[tuple[Ints, Ints]] = []
        for here, there, overlaps in side_by_side(people, detections):
            if not len(overlaps):
                continue
            enough = overlaps >= needed[here, None]
            persons, entries = np.nonzero(enough)
            pairs.append((persons + here.start, entries + there.start))
            matched = enough.any(axis=1)
            chosen = overlaps.argmax(axis=1)
            best[here] = np.where(matched, chosen + there.start, -1)
            false[there.start + chosen[matched]] = False
            loose = (overlaps >= LOOSE) & false[None, there]
            near[here] = ~matched & loose.any(axis=1)
        persons = np.concatenate([pair[0] for pair in pairs]) if pairs else np.zeros(0, np.int64)
        entries = np.concatenate([pair[1] for pair in pairs]) if pairs else np.zeros(0, np.int64)
        starts = np.searchsorted(persons, np.arange(len(people.frames) + 1))
        return cls(Matches(entries, starts), near, best, false)


def themselves(chosen: Bools) -> Matches:
    """The matches of a gallery that holds each chosen person as one entry: the box that was drawn by hand."""
    starts = np.concatenate([[0], chosen.cumsum()])
    return Matches(np.arange(int(chosen.sum())), starts)


def search(
    queries: Queries,
    people: People,
    entry_frames: Ints,
    features: Features,
    matches: Matches,
    *,
    fair: Overlap | None = None,
) -> SearchScore:
    """Rank a gallery for each query.

    Args:
        queries: Who is looked for, and where.
        people: Who is there.
        entry_frames: (N,) frame of each gallery entry.
        features: (N, D) float32 of unit length; likeness is their product, the cosine.
        matches: Which entries may stand for which person.
        fair: Of the entries, to leave false detections and doubles out: what is wrong is then somebody else.

    Returns:
        The result of each query. Entries that are equally alike share the worst of their ranks, as in scikit-learn's
        average_precision_score, by which published figures are computed.
    """
    total = len(queries.pids)
    score = SearchScore(
        np.full(total, np.nan), np.full(total, np.nan), np.zeros(total, np.int64), np.zeros(total, np.int64)
    )
    by_pid = np.argsort(people.pids, kind="stable")
    ordered = people.pids[by_pid]
    somebody = np.ones(len(entry_frames), bool) if fair is None else ~fair.false
    for start in range(0, total, _CHUNK):
        alike = queries.features[start : start + _CHUNK] @ features.T
        for query, row in enumerate(alike, start):
            first, last = np.searchsorted(ordered, queries.pids[query] + np.arange(2))
            allowed = queries.allowed[query]
            own = [person for person in by_pid[first:last].tolist() if allowed[people.frames[person]]]
            if not own:
                continue
            places = matched_entries(row, own, matches)
            wrong = allowed[entry_frames] & somebody
            if fair is not None:
                # Where the match is not the best placed box, the best placed one is the double.
                best = fair.best[own]
                wrong[best[best >= 0]] = False
            wrong[places] = False
            right = np.sort(row[places])
            others = np.sort(row[wrong])
            before = len(others) - np.searchsorted(others, right, side="left")
            upto = len(right) - np.searchsorted(right, right, side="left")
            score.wanted[query], score.matched[query] = len(own), len(places)
            score.average_precision[query] = (upto / (upto + before)).sum() / len(own)
            score.first_rank[query] = 1 + before[-1] if len(places) else np.inf
    return score


def matched_entries(alike: Features, persons: list[int], matches: Matches) -> Ints:
    """Of the entries that may stand for each of some people, the one that is most alike; each entry once."""
    places = [options[alike[options].argmax()] for person in persons if len(options := matches.of(person))]
    return np.unique(np.array(places, np.int64))


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Where the average precision of each query goes, (Q,) each; NaN where it is undefined.

    real + missed + boxes + false_detections + embedding = 1, for each query and so for their means.
    """

    real: Floats  # what is left: detections, and embeddings of what they cut out
    missed: Floats  # appearances with no detection on them
    # Badly placed ones: appearances whose detections overlap too little to count, and what embeddings lose because the
    # box is not the one drawn by hand (below 0 where they gain)
    boxes: Floats
    false_detections: Floats  # what is ranked too high and is nobody's best detection: background, doubles
    embedding: Floats  # other people that are ranked above the right one, in boxes drawn by hand
    oracle_embedding: Floats  # the bound that the detector sets: every match is ranked first


def decompose(
    queries: Queries,
    people: People,
    detections: Detections,
    features: Features,
    drawn_features: Features,
    overlap: Overlap,
) -> tuple[SearchScore, Decomposition]:
    """Search, and again with one fault after the other repaired; what each repair gains was lost to that fault.

    The order is: false detections leave the gallery; boxes become those drawn by hand; matches are ranked first;
    badly placed detections count; missed people are found.

    Args:
        queries: Who is looked for, and where.
        people: Who is there.
        detections: The gallery.
        features: (N, D) of the detections.
        drawn_features: (P, D) of the people in the boxes drawn by hand.
        overlap: Of `people` and `detections`.
    """
    real = search(queries, people, detections.frames, features, overlap.matches)
    fair = search(queries, people, detections.frames, features, overlap.matches, fair=overlap)
    found = overlap.matches.found
    drawn = search(queries, people, people.frames[found], drawn_features[found], themselves(found))
    shares = np.full((2, len(queries.pids)), np.nan)
    for query in np.flatnonzero(real.wanted):
        own = (people.pids == queries.pids[query]) & queries.allowed[query][people.frames]
        shares[:, query] = found[own].mean(), overlap.near[own].mean()
    bound, near = shares
    return real, Decomposition(
        real=real.average_precision,
        missed=1 - bound - near,
        boxes=near + drawn.average_precision - fair.average_precision,
        false_detections=fair.average_precision - real.average_precision,
        embedding=bound - drawn.average_precision,
        oracle_embedding=bound,
    )


def mean(values: Floats) -> float:
    """Mean of what is defined; NaN where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
