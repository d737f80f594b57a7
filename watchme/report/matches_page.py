"""`matches.html` of a run of mode=find: whom it looked for, when they appear, and what is nearly as similar."""

import math
from pathlib import Path
from typing import Any

from watchme.core.formatting import UNDEFINED, clock, percent_rounded_down
from watchme.inference.match_results import PAGE, Found, Match, Span, read_found
from watchme.io.files import replace_text
from watchme.report.rendering import render_page
from watchme.report.run_reader import read_run


def write_matches_page(folder: Path) -> Path:
    """Write `matches.html` into the folder of a run of mode=find, beside the pictures that it shows.

    Raises:
        RunFolderError: If the folder is not of such a run.
    """
    found, run = read_found(folder), read_run(folder)
    by_rank = {match.rank: match for match in found.matches}
    shown = {rank for span in found.appearances for rank in span.ranks}
    page = render_page(
        "matches.jinja",
        title=f"Find a person in {Path(found.source).name or found.source}",
        meta=f"{found.source} · {found.frames:,} frames, {found.sightings:,} sightings of people",
        folder=folder,
        status=run.status,
        queries=found.queries,
        fallbacks=run.manifest.get("fallbacks", []),
        cards=_cards(found),
        spans=[_span(span, [by_rank[rank] for rank in span.ranks]) for span in found.appearances],
        others=[_tile(match) for match in found.matches if match.crop and match.rank not in shown],
        is_calibrated=not math.isnan(found.threshold),
    )
    replace_text(folder / PAGE, page)
    return folder / PAGE


def _cards(found: Found) -> list[tuple[str, str, str]]:
    matches = sum(span.sightings for span in found.appearances)
    cards = [
        (
            "appearances",
            f"{len(found.appearances):,}",
            f"sightings that match: {matches:,}",
        ),
        ("match from a similarity of", _number(found.threshold), found.origin),
    ]
    if not math.isnan(found.expected_false):
        note = f"of {found.sightings:,} sightings, if they were all of other people"
        cards.append(("matches by chance", f"about {found.expected_false:,.0f}", note))
    best = max((match.similarity for match in found.matches), default=math.nan)
    return [*cards, ("best similarity", _number(best), found.search)]


def _span(span: Span, matches: list[Match]) -> dict[str, Any]:
    first, last = f"{span.first_frame}", f"{span.last_frame}"
    if math.isnan(span.start_s):
        names = {match.frame: match.name for match in matches}
        first, last = names.get(span.first_frame, f"picture {first}"), names.get(span.last_frame, f"picture {last}")
        when, frames = first if first == last else f"{first} to {last}", ""
    else:
        when, frames = f"{clock(span.start_s)} to {clock(span.end_s)}", f"frames {first} to {last}, "
    return {
        "when": when,
        "note": f"{frames}{span.sightings:,} {'sighting' if span.sightings == 1 else 'sightings'}",
        "similarity": f"{span.similarity:.3f}",
        "sure": _sure(span.higher_than),
        "clip": span.clip,
        "tiles": [_tile(match) for match in matches],
    }


def _tile(match: Match) -> dict[str, str]:
    when = match.name if math.isnan(match.time_s) else clock(match.time_s)
    box = " ".join(f"{value:.0f}" for value in match.box)
    return {
        "crop": match.crop,
        "picture": match.picture,
        "when": when,
        "similarity": f"{match.similarity:.3f}",
        "title": f"frame {match.frame} ({match.name}), box {box}, {_sure(match.higher_than)}, rank {match.rank}",
    }


def _sure(higher_than: float) -> str:
    if math.isnan(higher_than):
        return "not calibrated"
    if higher_than == 1:
        return "higher than all pairs of different people"
    return f"higher than {percent_rounded_down(higher_than)} of pairs of different people"


def _number(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.3f}"
