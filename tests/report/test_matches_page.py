"""matches.html: appearances with their pictures, what is nearly as similar, and how sure it all is."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from report.matches import made, match
from watchme.core.errors import RunFolderError
from watchme.inference.match_results import Span, read_found, write_found
from watchme.report.matches_page import write_matches_page


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


def test_pictures_are_called_by_their_names(folder: Path) -> None:
    """They have no times; and one that stands alone is no range."""
    several = tuple(
        replace(match(rank, rank, 0.9, is_match=True), time_s=math.nan, name=f"photo{rank}.jpg") for rank in (1, 2, 3)
    )
    alone = Span(1, 1, math.nan, math.nan, 1, 0.9, 1.0, (1,))
    spans = (alone, replace(alone, first_frame=2, last_frame=3, sightings=2, ranks=(2, 3)))
    write_found(replace(made(folder), matches=several, appearances=spans))
    page = write_matches_page(folder).read_text()
    assert re.findall(r"<h3>([^<]*?) <span>", page) == ["photo1.jpg", "photo2.jpg to photo3.jpg"]


def test_without_a_calibration_nobody_is_called_a_match(folder: Path) -> None:
    write_found(replace(made(folder), threshold=math.nan, expected_false=math.nan, appearances=()))
    page = write_matches_page(folder).read_text()
    assert "nobody is called a match" in page
    assert "The most similar" in page
