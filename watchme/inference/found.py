"""What mode=find has found, as files of its run folder: `matches.json` with everything, `matches.csv` with the list."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchme.core.errors import RunFolderError
from watchme.io.files import read_json, replace_json, replacing

FILE = "matches.json"
TABLE = "matches.csv"
PAGE = "matches.html"


@dataclass(frozen=True)
class Match:
    """A sighting, ranked.

    Attributes:
        rank: From 1.
        frame: Index of the frame in the source, from 0.
        name: Of the frame.
        time_s: Seconds; NaN for pictures.
        box: x1, y1, x2, y2 in pixels.
        score: The detector's confidence.
        similarity: Cosine of the query's embedding and the sighting's, in videos that of the mean of its track.
        higher_than: Share of comparisons of different people that are less similar; NaN where that is unknown.
        is_match: Whether the similarity reaches the threshold.
        track: Number of the track that the sighting is in.
        crop: Picture of the person below the run folder; empty where none was made.
        picture: Picture of the whole frame below the run folder.
    """

    rank: int
    frame: int
    name: str
    time_s: float
    box: tuple[float, float, float, float]
    score: float
    similarity: float
    higher_than: float
    is_match: bool
    track: int = -1
    crop: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Stretch:
    """Matches that follow each other closely.

    Attributes:
        first_frame: Index of the first frame.
        last_frame: Index of the last.
        start_s: Seconds of the first; NaN for pictures.
        end_s: Seconds of the last.
        sightings: How many matches.
        similarity: The best of them.
    """

    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    sightings: int
    similarity: float


@dataclass(frozen=True)
class Span(Stretch):
    """An appearance, as a run folder tells of it.

    Attributes:
        higher_than: See `Match`.
        ranks: Of the matches that are shown of it, in order of time.
        clip: Video of it below the run folder; empty where none was made.
    """

    higher_than: float
    ranks: tuple[int, ...] = ()
    clip: str = ""


@dataclass(frozen=True)
class Found:
    """What was found of a person.

    Attributes:
        folder: The run folder.
        source: Where was looked.
        frames: How many frames were looked at.
        sightings: How many people were seen in them, one person counted once in each frame.
        queries: Name of each query picture -> its crop below the run folder.
        threshold: Similarity from which on a sighting is a match; NaN where it is unknown.
        origin: What the threshold comes from, a sentence.
        expected_false: How many sightings of other people would match by chance; NaN where that is unknown.
        search: How was searched.
        matches: The most similar sightings, those above the threshold first of all.
        appearances: The most similar first.
    """

    folder: Path
    source: str
    frames: int
    sightings: int
    queries: Mapping[str, str]
    threshold: float
    origin: str
    expected_false: float
    search: str
    matches: tuple[Match, ...]
    appearances: tuple[Span, ...]

    @property
    def page(self) -> Path:
        """The page with the pictures."""
        return self.folder / PAGE


def write_found(found: Found) -> None:
    """Write matches.json and matches.csv into the run folder."""
    content = dataclasses.asdict(found)
    content.pop("folder")
    replace_json(found.folder / FILE, content)
    columns = [field.name for field in dataclasses.fields(Match) if field.name not in ("box", "crop", "picture")]
    with replacing(found.folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "x1", "y1", "x2", "y2"])
        for match in found.matches:
            writer.writerow([*(_cell(getattr(match, name)) for name in columns), *(f"{x:.1f}" for x in match.box)])


def read_found(folder: Path) -> Found:
    """Read what a run of mode=find has found.

    Raises:
        RunFolderError: If the folder is not of such a run.
    """
    content = read_json(folder / FILE)
    try:
        matches = tuple(Match(**_typed(Match, entry)) for entry in content.pop("matches"))
        spans = tuple(Span(**_typed(Span, entry)) for entry in content.pop("appearances"))
        return Found(folder=folder, matches=matches, appearances=spans, **_typed(Found, content))
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{folder} is no run of mode=find: its {FILE} is missing or damaged") from error


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return int(value) if isinstance(value, bool) else value


def _typed(kind: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's null of an undefined number as NaN, its lists as tuples."""
    numbers = {field.name for field in dataclasses.fields(kind) if field.type in ("float", float)}
    values = {key: math.nan if value is None and key in numbers else value for key, value in entry.items()}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
