"""A second look at a source whose people are known: drawn pictures or a video, frames and people for the page.

Who is who is known at the end only, so that boxes are drawn then. Of a camera or a stream, which cannot be looked at
twice, `LiveShow` draws what comes, without numbers of persons.
"""

import contextlib
import heapq
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from watchme.core.fonts import font_for
from watchme.core.formatting import clock
from watchme.core.progress import Progress
from watchme.inference.drawing import VideoFile, colour_of, draw_people, write_jpeg
from watchme.inference.frames import Frame, FrameSource, Image8
from watchme.inference.frames_at import frames_at
from watchme.inference.outputs import FramePeople, by_frame, file_stems
from watchme.inference.pipeline import cut_out
from watchme.inference.sightings import Seen, Sightings

DRAWN, FRAMES, PEOPLE, PAGE = "drawn", "frames", "people", "page"
_CROPS = 12  # of a person on the page
_TILE, _GAP, _LINE = (88, 176), 6, 18
_PAGE_SIDE = 1280


@dataclass(frozen=True)
class Wanted:
    """What is drawn."""

    drawn: bool  # whether each picture, or the video, is drawn
    frames: bool  # whether each frame of a video is drawn as a picture
    video: str  # format of a video: mp4 or webm
    pictures: int  # how many people, and how many frames, are drawn for the page
    stride: int  # every how many frames one was looked at


@dataclass(frozen=True)
class Shown:
    """A picture for the page: its name, its file, and a caption."""

    name: str
    path: Path
    caption: str


def show(source: FrameSource, found: Sightings, folder: Path, wanted: Wanted) -> tuple[list[Shown], list[Shown]]:
    """Go through a source once more, and draw.

    Args:
        source: Pictures or a video.
        found: Who was seen in it.
        folder: The run folder.
        wanted: What is drawn.

    Returns:
        Pictures of people, those seen most often first, and of frames.
    """
    page = _busiest_frames(found, min(wanted.pictures, 12))
    crops = _crops_of(found, wanted.pictures)
    strips: dict[int, dict[int, Image8]] = {}
    stems = file_stems(found)
    every = wanted.drawn or (wanted.frames and source.kind == "video")
    only = None if every else page | {int(found.frame[row]) for rows in crops.values() for row in rows}
    shown: list[Shown] = []
    for frame, people, film in _again(source, found, folder, wanted, only):
        drawn = draw_people(frame.image, people.box, people.score, people.person)
        if film is not None:
            film.write(drawn)
        if (wanted.drawn and source.kind == "pictures") or (wanted.frames and source.kind == "video"):
            place = DRAWN if source.kind == "pictures" else FRAMES
            write_jpeg(folder / place / f"{stems[people.number]}.jpg", drawn)
        if people.index in page:
            caption = _caption(people.name, people.time_s, len(people.score))
            shown.append(_page_picture(folder, people.index, drawn, caption))
        for person, rows in crops.items():
            for row in rows:
                if people.rows.start <= row < people.rows.stop:
                    box = found.box[row].tolist()
                    strips.setdefault(person, {})[row] = np.ascontiguousarray(cut_out(frame.image, box))
    return [_strip(folder, found, person, strips[person]) for person in crops if person in strips], shown


def _again(
    source: FrameSource, found: Sightings, folder: Path, wanted: Wanted, only: Collection[int] | None
) -> Iterator[tuple[Frame, FramePeople, VideoFile | None]]:
    """Each frame that was looked at, or `only` these, with its people, and the video that is being drawn."""
    times = dict(zip(found.frame_index.tolist(), found.frame_time.tolist(), strict=True))
    known = by_frame([found])
    film: contextlib.AbstractContextManager[VideoFile | None] = contextlib.nullcontext()
    if wanted.drawn and source.kind == "video":
        film = VideoFile(folder / f"{DRAWN}.{wanted.video}", (source.fps or 25.0) / wanted.stride)
    if only is None:
        frames = source.frames(0, wanted.stride)
    else:
        times = {each: times[each] for each in only}
        frames = frames_at(source, times)
    with film as file, Progress("Drawing", len(times), "frame") as bar:
        for frame in frames:
            people = next((each for each in known if each.index >= frame.index), None)
            if people is None or people.index != frame.index:
                break  # there were no more then, or the source has changed meanwhile
            yield frame, people, file
            bar.update()


class LiveShow:
    """Draws the frames of a camera or a stream as they come.

    Args:
        folder: The run folder.
        wanted: What is drawn.
        fps: Frames a second of the source; None: unknown.
    """

    def __init__(self, folder: Path, wanted: Wanted, fps: float | None) -> None:
        self._folder = folder
        self._wanted = wanted
        self._fps = (fps or 25.0) / wanted.stride
        self._film = VideoFile(folder / f"{DRAWN}.{wanted.video}", self._fps)
        self._drawn = 0
        self._best: list[tuple[int, int, Image8, str]] = []

    def watch(self, batch: list[tuple[Frame, Seen]]) -> None:
        """Draw a batch."""
        for frame, seen in batch:
            nobody = np.full(len(seen.scores), -1, np.int64)
            drawn = draw_people(frame.image, seen.boxes, seen.scores, nobody)
            # Of a camera that is faster than we are, frames are missing: the next one stands for them, to keep time.
            while self._wanted.drawn and self._drawn <= round(frame.time_s * self._fps):
                self._film.write(drawn)
                self._drawn += 1
            if self._wanted.frames:
                write_jpeg(self._folder / FRAMES / f"{frame.name}.jpg", drawn)
            entry = (len(seen.scores), -frame.index, drawn, _caption(frame.name, frame.time_s, len(seen.scores)))
            if len(self._best) < min(self._wanted.pictures, 12):
                heapq.heappush(self._best, entry)
            elif self._best and entry[:2] > self._best[0][:2]:
                heapq.heapreplace(self._best, entry)

    def close(self) -> list[Shown]:
        """Finish the video; returns pictures of the frames with most people."""
        self._film.close()
        shown = []
        for _, index, drawn, caption in sorted(self._best, key=lambda entry: -entry[1]):
            shown.append(_page_picture(self._folder, -index, drawn, caption))
        return shown


def _busiest_frames(found: Sightings, count: int) -> set[int]:
    """Of each of `count` parts of the source the frame with most people, of several the surest."""
    place = np.searchsorted(found.frame_index, found.frame)
    weight = np.bincount(place, found.score + 1.0, len(found.frame_index))
    parts = np.array_split(np.arange(len(weight)), max(1, min(count, len(weight))))
    best = [part[np.argmax(weight[part])] for part in parts if count and len(part)]
    return {int(found.frame_index[each]) for each in best}


def _crops_of(found: Sightings, count: int) -> Mapping[int, Sequence[int]]:
    """Person -> sightings to show, spread over the source, of the `count` persons that were seen most often."""
    numbers, seen = np.unique(found.person[found.person >= 0], return_counts=True)
    chosen = numbers[np.argsort(-seen, kind="stable")[:count]]
    area = np.sqrt(np.maximum((found.box[:, 2] - found.box[:, 0]) * (found.box[:, 3] - found.box[:, 1]), 0))
    value = found.score * area
    crops = {}
    for person in chosen.tolist():
        rows = np.flatnonzero(found.person == person)
        parts = np.array_split(rows, min(_CROPS, len(rows)))
        crops[person] = [int(part[np.argmax(value[part])]) for part in parts]
    return crops


def _page_picture(folder: Path, index: int, drawn: Image8, caption: str) -> Shown:
    picture = Image.fromarray(drawn)
    picture.thumbnail((_PAGE_SIDE, _PAGE_SIDE))
    path = folder / PAGE / f"frame_{index:06d}.jpg"
    write_jpeg(path, np.asarray(picture))
    return Shown(f"frames/{index}", path, caption)


def _caption(name: str, time_s: float, people: int) -> str:
    when = "" if math.isnan(time_s) else f"{clock(time_s)}, "
    return f"{when}{name}: {people} {'person' if people == 1 else 'people'}"


def _strip(folder: Path, found: Sightings, person: int, crops: Mapping[int, Image8]) -> Shown:
    """A row of one person's crops, in the order of time."""
    width, height = _TILE
    colour = colour_of(person)
    canvas = Image.new("RGB", (len(crops) * (width + _GAP) - _GAP, height + _LINE), "white")
    draw = ImageDraw.Draw(canvas)
    for place, row in enumerate(sorted(crops)):
        left = place * (width + _GAP)
        tile = ImageOps.pad(
            Image.fromarray(crops[row]), (width, height), Image.Resampling.BICUBIC, color=(235, 235, 235)
        )
        canvas.paste(tile, (left, 0))
        draw.rectangle((left, 0, left + width - 1, height - 1), outline=colour, width=2)
        seconds = float(found.time[row])
        text = _short(Path(found.name(row)).stem) if math.isnan(seconds) else clock(seconds)
        draw.text((left + width / 2, height + 3), text, fill=(60, 60, 60), font=font_for(text, 12), anchor="ma")
    path = folder / PEOPLE / f"person_{person:04d}.jpg"
    write_jpeg(path, np.asarray(canvas))
    return Shown(f"people/person {person}", path, _person_line(found, person))


def _short(name: str) -> str:
    """The end of a name, as much as fits below a crop."""
    return name if len(name) <= 12 else f"\u2026{name[-11:]}"


def _person_line(found: Sightings, person: int) -> str:
    """`person 3: 31 sightings, 0:02.0 to 1:14.5`."""
    rows = np.flatnonzero(found.person == person)
    text = f"person {person}: {len(rows)} {'sighting' if len(rows) == 1 else 'sightings'}"
    if math.isnan(float(found.time[rows[0]])):
        return text
    return f"{text}, {clock(float(found.time[rows[0]]))} to {clock(float(found.time[rows[-1]]))}"
