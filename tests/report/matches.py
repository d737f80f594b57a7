"""What a run of mode=find has found, made up."""

from pathlib import Path

from watchme.inference.match_results import Found, Match, Span


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
