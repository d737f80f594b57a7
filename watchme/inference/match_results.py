"""What mode=find has found, as files of its run folder: `matches.json` with everything, `matches.csv` with the list."""

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
    """A sighting, ranked."""

    rank: int  # from 1
    frame: int  # index of the frame in the source, from 0
    name: str  # of the frame
    time_s: float  # seconds; NaN for pictures
    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
    score: float  # the detector's confidence
    similarity: float  # cosine of the query's embedding and the sighting's, in videos that of the mean of its track
    higher_than: float  # share of comparisons of different people that are less similar; NaN where that is unknown
    is_match: bool  # whether the similarity reaches the threshold
    track: int = -1  # number of the track that the sighting is in
    crop: str = ""  # picture of the person below the run folder; empty where none was made
    picture: str = ""  # picture of the whole frame below the run folder


@dataclass(frozen=True)
class Stretch:
    """Matches that follow each other closely."""

    first_frame: int  # index of the first frame
    last_frame: int  # index of the last
    start_s: float  # seconds of the first; NaN for pictures
    end_s: float  # seconds of the last
    sightings: int  # how many matches
    similarity: float  # the best of them


@dataclass(frozen=True)
class Span(Stretch):
    """An appearance, as it stands in a run folder."""

    higher_than: float  # see `Match`
    ranks: tuple[int, ...] = ()  # of the matches that are shown of it, in order of time
    clip: str = ""  # video of it below the run folder; empty where none was made


@dataclass(frozen=True)
class Found:
    """What was found of a person."""

    folder: Path  # the run folder
    source: str  # where the person was looked for
    frames: int  # how many frames were looked at
    sightings: int  # how many people were seen in them, one person counted once in each frame
    queries: Mapping[str, str]  # name of each query picture -> its crop below the run folder
    threshold: float  # similarity from which on a sighting is a match; NaN where it is unknown
    origin: str  # what the threshold comes from, a sentence
    expected_false: float  # how many sightings of other people would match by chance; NaN where that is unknown
    search: str  # how it was searched
    matches: tuple[Match, ...]  # the most similar sightings, those above the threshold first of all
    appearances: tuple[Span, ...]  # the most similar first

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
    numbers = {field.name for field in dataclasses.fields(kind) if field.type is float}
    values = {key: math.nan if value is None and key in numbers else value for key, value in entry.items()}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
