"""Pictures of matches: crops, whole frames with the match marked, and the others blurred if asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from watchme.inference.drawing import label_place
from watchme.inference.frames import FrameSource, Image8
from watchme.inference.frames_at import frames_at
from watchme.inference.pipeline import region
from watchme.metrics.iou import iou_matrix

CROPS, FRAMES = "matches/crops", "matches/frames"
_CROP_HEIGHT, _FRAME_WIDTH = 256, 1280  # pixels, at most
_MARGIN = 0.08  # of a box, which is cut out and blurred with it
_CELLS = 6  # a blurred person is made of 6 x 12 colours, by which nobody is recognised
_MARK = (18, 128, 92)
_QUALITY = 85
_SAME_PERSON = 0.5  # IoU from which on two boxes are of one person
Boxes = NDArray[np.float32]


def blur_people(image: Image8, boxes: Boxes, spared: Sequence[float] | None = None) -> Image8:
    """A copy of an image with the people in it blurred beyond recognition, as far as they are in a box.

    Args:
        image: (H, W, 3) uint8.
        boxes: (n, 4) x1, y1, x2, y2 of the people to blur.
        spared: A box whose pixels stay as they are, but for people in front of it: whose feet are lower in the picture.
    """
    result = image.copy()
    nearer = np.zeros(len(boxes), bool) if spared is None else boxes[:, 3] > spared[3]
    for box in boxes[~nearer].tolist():
        _blur(image, result, region(image, box, _MARGIN))
    if spared is not None:
        x1, y1, x2, y2 = (max(0, round(value)) for value in spared)
        result[y1:y2, x1:x2] = image[y1:y2, x1:x2]
    for box in boxes[nearer].tolist():
        _blur(image, result, region(image, box, _MARGIN))
    return result


def mark(image: Image8, box: Sequence[float], text: str = "") -> Image.Image:
    """The whole picture, scaled down to 1280 pixels of width, with a box and a text drawn into it."""
    drawn = Image.fromarray(image)
    scale = min(1.0, _FRAME_WIDTH / drawn.width)
    if scale < 1:
        drawn = drawn.resize((_FRAME_WIDTH, max(1, round(drawn.height * scale))), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(drawn)
    x1, y1, x2, y2 = (value * scale for value in box)
    pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=_MARK, width=max(2, drawn.width // 250))
    if text:
        wide = round(pen.textlength(text, font_size=14)) + 6
        left, top = label_place((x1, y1, x2, y2), (wide, 18), drawn.size)
        pen.rectangle((left, top, left + wide, top + 18), fill=_MARK)
        pen.text((left + 3, top + 1), text, fill="white", font_size=14)
    return drawn


@dataclass(frozen=True)
class Shown:
    """A sighting that gets a picture."""

    rank: int  # of the sighting, from 1
    frame: int  # index of its frame
    time_s: float  # seconds; NaN for pictures
    box: tuple[float, ...]  # x1, y1, x2, y2 in pixels
    text: str  # drawn at the box


def draw_matches(
    source: FrameSource, wanted: Sequence[Shown], others: Callable[[Image8], Boxes] | None, folder: Path
) -> dict[int, tuple[str, str]]:
    """Write a crop and a frame for each sighting that is shown.

    Args:
        source: Where the frames are; they are read once more, one at a time.
        wanted: The sightings.
        others: Finds everybody in an image, to be blurred; None: nobody is.
        folder: The run folder.

    Returns:
        Rank -> files of crop and frame below the run folder; those whose frame is gone are left out.
    """
    for part in (CROPS, FRAMES):
        (folder / part).mkdir(parents=True, exist_ok=True)
    files: dict[int, tuple[str, str]] = {}
    for frame in frames_at(source, {each.frame: each.time_s for each in wanted}):
        people = None if others is None else others(frame.image)
        for each in wanted:
            if each.frame != frame.index:
                continue
            image = frame.image
            if people is not None:
                image = blur_others(image, people, each.box)
            crop, picture = files[each.rank] = f"{CROPS}/{each.rank:05d}.jpg", f"{FRAMES}/{each.rank:05d}.jpg"
            write_crop(image[region(image, each.box, _MARGIN)], folder / crop)
            mark(image, each.box, each.text).save(folder / picture, quality=_QUALITY)
    return files


def write_crop(crop: Image8, path: Path) -> None:
    """Write a crop as JPEG, scaled down to 256 pixels of height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.ascontiguousarray(crop))
    picture.thumbnail((_CROP_HEIGHT * 4, _CROP_HEIGHT), Image.Resampling.LANCZOS)
    picture.save(path, quality=_QUALITY)


def blur_others(image: Image8, people: Boxes, box: Sequence[float] | None) -> Image8:
    """A copy of an image with everybody blurred but the person in `box`; everybody, where there is none."""
    if box is None or not len(people):
        return blur_people(image, people)
    own = iou_matrix(people.astype(np.float64), np.asarray(box, np.float64)[None])[:, 0] >= _SAME_PERSON
    return blur_people(image, people[~own], box)


def _blur(image: Image8, result: Image8, region: tuple[slice, slice]) -> None:
    part = Image.fromarray(np.ascontiguousarray(image[region]))
    small = part.resize((_CELLS, 2 * _CELLS), Image.Resampling.BOX)
    result[region] = np.asarray(small.resize(part.size, Image.Resampling.BILINEAR))
