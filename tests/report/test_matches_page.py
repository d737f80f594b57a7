"""matches.html: appearances with their pictures, what is nearly as similar, and how sure it all is."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from watchme.core.errors import RunFolderError
from watchme.inference.found import Found, Match, Span, read_found, write_found
from watchme.report.matches_page import write_matches_page


def match(rank: int, frame: int, similarity: float, *, is_match: bool, shown: bool = True) -> Match:
    files = (f"matches/crops/{rank}.jpg", f"matches/frames/{rank}.jpg") if shown else ("", "")
    box = (1.0, 2.0, 30.0, 90.0)
    return Match(rank, frame, f"<f{frame}>", frame / 10, box, 0.8, similarity, 0.997, is_match, 3, *files)


def made(folder: Path) -> Found:
    matches = (
        match(1, 40, 0.91, is_match=True),
        match(2, 41, 0.85, is_match=True, shown=False),
        match(3, 300, 0.55, is_match=False),
    )
    span = Span(40, 41, 4.0, 4.1, 2, 0.91, 1.0, (1,), "matches/clip1.webm")
    return Found(
        folder=folder,
        source="street & <square>.mp4",
        frames=500,
        sightings=1234,
        queries={"anna.jpg": "matches/query1.jpg"},
        threshold=0.7,
        origin="2,905 pairs of 42 people",
        expected_false=12.3,
        search="all inner products",
        matches=matches,
        appearances=(span,),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "fallbacks": ["query: <b>two people</b>"]}))
    return tmp_path


def test_what_is_written_is_read_again(folder: Path) -> None:
    found = made(folder)
    write_found(found)
    assert read_found(folder) == found
    unknown = replace(found, threshold=math.nan, expected_false=math.nan)
    write_found(unknown)
    assert math.isnan(read_found(folder).threshold)


def test_another_folder_is_refused(folder: Path) -> None:
    with pytest.raises(RunFolderError, match="no run of mode=find"):
        read_found(folder)


def test_the_page_shows_who_when_and_how_sure(folder: Path) -> None:
    write_found(made(folder))
    page = write_matches_page(folder).read_text()
    assert "0:04.0 to 0:04.1" in page
    assert "frames 40 to 41, 2 sightings" in page
    assert "similarity up to 0.910, higher than all pairs of different people" in page
    assert "higher than 99.7% of pairs of different people" in page
    assert "about 12" in page
    assert "2,905 pairs of 42 people" in page


def test_pictures_lead_to_their_frames_and_what_is_not_drawn_is_left_out(folder: Path) -> None:
    write_found(made(folder))
    page = write_matches_page(folder).read_text()
    links = re.findall(r'<a class="tile" href="([^"]+)"[^>]*><img src="([^"]+)"', page)
    assert links == [("matches/frames/1.jpg", "matches/crops/1.jpg"), ("matches/frames/3.jpg", "matches/crops/3.jpg")]
    assert 'href="matches/clip1.webm"' in page
    assert 'src="matches/query1.jpg"' in page


def test_text_of_others_is_escaped(folder: Path) -> None:
    write_found(made(folder))
    page = write_matches_page(folder).read_text()
    assert "<square>" not in page
    assert "<f40>" not in page
    assert "<b>two people" not in page


def test_without_a_calibration_nobody_is_called_a_match(folder: Path) -> None:
    write_found(replace(made(folder), threshold=math.nan, expected_false=math.nan, appearances=()))
    page = write_matches_page(folder).read_text()
    assert "nobody is called a match" in page
    assert "The most similar" in page
