"""Plots of person search: the best and the worst searches, and what each fault costs."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from watchme.core.figure import new_axes, save
from watchme.core.interfaces import Picture
from watchme.engines.person_search.config import SearchEvaluation
from watchme.engines.person_search.embed_frames import FrameFeatures, read_frame
from watchme.engines.person_search.scores import Outcome
from watchme.inference.frames import Image8
from watchme.inference.pipeline import cut_out
from watchme.metrics.person_search import Decomposition, Overlap, SearchScore, matched_entries, mean
from watchme.metrics.ranking_plots import BACKGROUND, INK, QUERY, RIGHT, WRONG

Colour = tuple[int, int, int]
LOST = (214, 126, 0)
WIDTH, CROP, SCENE = 132, 176, 132  # of a column, its crop and its whole frame, pixels
BORDER, GAP, MARGIN, LINE = 4, 10, 14, 16
_MOST_LOST = 2


@dataclass(frozen=True, eq=False)
class _Tile:
    """A box in its frame."""

    frame: int
    box: np.ndarray[tuple[int], np.dtype[np.float64]]
    colour: Colour
    lines: tuple[str, str]


def draw_searches(outcome: Outcome, config: SearchEvaluation, folder: Path) -> Iterator[Picture]:
    """Draw the best and the worst searches, of as many people as possible.

    Each is a row: the query, the most similar detections (green: the right person; red: anything else, including a
    second box on the same person), and appearances that the detector missed (orange). The crop is above its frame.
    """
    seen, score = outcome.seen, outcome.real
    folder.mkdir(parents=True, exist_ok=True)
    for name, worst in (("best", False), ("worst", True)):
        for place, query in enumerate(_chosen(seen, score, config.pictures, worst=worst), 1):
            path = folder / f"{name}{place}.png"
            _row(seen, list(_tiles(seen, outcome.overlap, query, config.topk))).save(path)
            who = seen.data.name_of(seen.data.queries[query].pid)
            counts = f"{score.matched[query]} of {score.wanted[query]} appearances detected"
            caption = f"identity {who}: AP {score.average_precision[query]:.2f}, {counts}"
            yield Picture(f"test/search_{name}", path, caption)


def draw_decomposition(lost: Decomposition, path: Path, *, title: str) -> None:
    """Bars from a perfect search down to the measured one, a step for each fault, as a PNG."""
    steps = [
        ("people\nmissed", mean(lost.missed), "#c8501e"),
        ("box\nquality", mean(lost.boxes), "#c8501e"),
        ("false\ndetections", mean(lost.false_detections), "#c8501e"),
        ("embedding", mean(lost.embedding), "#6a4fa3"),
    ]
    figure, axes = new_axes(6.8, 3.8, grid="y")
    axes.bar(0, 1, color="#9a9a9a", width=0.62)
    axes.text(0, 1.015, "1.000", ha="center", va="bottom", fontsize=9)
    level = 1.0
    for place, (_, value, colour) in enumerate(steps, 1):
        axes.bar(place, -value, bottom=level, color=colour, width=0.62)
        axes.plot([place - 0.69, place + 0.31], [level, level], color="#777777", linewidth=0.8)
        axes.text(place, max(level, level - value) + 0.015, f"{-value:+.3f}", ha="center", va="bottom", fontsize=9)
        level -= value
    real = mean(lost.real)
    last = len(steps) + 1
    axes.plot([last - 0.69, last + 0.31], [level, level], color="#777777", linewidth=0.8)
    axes.bar(last, real, color="#1f5fa8", width=0.62)
    axes.text(last, real + 0.015, f"{real:.3f}", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(last + 1), ["perfect", *(name for name, _, _ in steps), "real"])
    axes.set_ylim(0, 1.1)
    axes.set_ylabel("search mAP")
    axes.set_title(f"{title}\ndetector: orange, re-ID model: purple", fontsize=10)
    save(figure, path)


def _chosen(seen: FrameFeatures, score: SearchScore, count: int, *, worst: bool) -> list[int]:
    """Queries with the lowest or highest average precision, each identity once."""
    values = score.average_precision
    defined = np.flatnonzero(~np.isnan(values))
    order = defined[np.argsort(values[defined] if worst else -values[defined], kind="stable")]
    first: dict[int, int] = {}
    for query in order.tolist():
        first.setdefault(int(seen.queries.pids[query]), query)
    return list(first.values())[:count]


def _tiles(seen: FrameFeatures, overlap: Overlap, query: int, topk: int) -> Iterator[_Tile]:
    asked = seen.data.queries[query]
    people, frames = seen.people, seen.data.frames

    def place_of(frame: int) -> str:
        camera = frames[frame].camera
        return "" if camera is None else f"camera {camera}"

    who = f"query {seen.data.name_of(asked.pid)}"
    yield _Tile(asked.frame, np.array(asked.box), QUERY, (who, place_of(asked.frame)))
    allowed = seen.queries.allowed[query]
    own = np.flatnonzero((people.pids == asked.pid) & allowed[people.frames])
    alike = seen.features @ seen.queries.features[query]
    right = set(matched_entries(alike, own.tolist(), overlap.matches).tolist())
    on_them = {entry for person in own.tolist() for entry in overlap.matches.of(person).tolist()}
    entries = np.flatnonzero(allowed[seen.detections.frames])
    for rank, entry in enumerate(entries[np.argsort(-alike[entries], kind="stable")][:topk].tolist(), 1):
        frame = int(seen.detections.frames[entry])
        colour = RIGHT if entry in right else WRONG
        # Only one detection of an appearance is right; the other is no mistake of the embedding.
        double = " double" if entry in on_them - right else ""
        line = f"{rank}: {alike[entry]:.2f}{double}"
        yield _Tile(frame, seen.detections.boxes[entry], colour, (line, place_of(frame)))
    for person in own[~overlap.matches.found[own]].tolist()[:_MOST_LOST]:
        frame = int(people.frames[person])
        why = "box too poor" if overlap.near[person] else "not detected"
        yield _Tile(frame, people.boxes[person], LOST, (why, place_of(frame)))


def _row(seen: FrameFeatures, tiles: list[_Tile]) -> Image.Image:
    """The query's column, a wider gap, a column for each detection, a wider gap, those for whom the detector lost."""
    step = WIDTH + GAP
    gaps = [0]
    for before, after in itertools.pairwise(tiles):
        gaps.append(gaps[-1] + (GAP if (before.colour in (QUERY, LOST)) != (after.colour in (QUERY, LOST)) else 0))
    width = 2 * MARGIN + len(tiles) * step - GAP + gaps[-1]
    canvas = Image.new("RGB", (width, 2 * MARGIN + CROP + GAP + SCENE + 2 * LINE + 4), BACKGROUND)
    for place, (tile, gap) in enumerate(zip(tiles, gaps, strict=True)):
        _draw(canvas, MARGIN + place * step + gap, tile, read_frame(seen.data.frames[tile.frame].path))
    return canvas


def _draw(canvas: Image.Image, left: int, tile: _Tile, frame: Image8) -> None:
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((left, MARGIN, left + WIDTH - 1, MARGIN + CROP - 1), fill=tile.colour)
    inner = (WIDTH - 2 * BORDER, CROP - 2 * BORDER)
    crop = Image.fromarray(np.ascontiguousarray(cut_out(frame, tile.box.tolist())))
    canvas.paste(
        ImageOps.pad(crop, inner, Image.Resampling.BICUBIC, color=BACKGROUND), (left + BORDER, MARGIN + BORDER)
    )
    whole = Image.fromarray(frame)
    scale = min(WIDTH / whole.width, SCENE / whole.height)
    size = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
    small = whole.resize(size, Image.Resampling.BICUBIC)
    x1, y1, x2, y2 = (float(value) * scale for value in tile.box)
    ImageDraw.Draw(small).rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=tile.colour, width=3)
    top = MARGIN + CROP + GAP
    canvas.paste(small, (left + (WIDTH - small.width) // 2, top))
    font = ImageFont.load_default(size=13)
    centre = left + WIDTH / 2
    draw.text((centre, top + SCENE + 4), tile.lines[0], fill=tile.colour, font=font, anchor="ma")
    draw.text((centre, top + SCENE + 4 + LINE), tile.lines[1], fill=INK, font=font, anchor="ma")
